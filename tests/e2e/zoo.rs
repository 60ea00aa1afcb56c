//! Hostile workers, part 2: children that change their session, mark, parent or user. A stop leaves no
//! process, and an immediate restart succeeds; the same after a crash of the daemon (R-CONT-1 to 5,
//! R-CONT-7).
//!
//! Each hostile worker is stopped without a cgroup and, if the machine delegates one, in a cgroup; with
//! `MCPD_BACKEND=portable` in the way of macOS. The table at the end lists what is needed to stop each.

use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::cgroup::CGROUP_VARIABLE;
use mcpd_common::os::process::{self, Process};
use mcpd_common::os::{Backend, backend};
use mcpd_common::outcome::{Finding, FindingKind, ShutdownReport};
use mcpd_common::status::WorkerState;
use mcpd_tests::cgroup::Scratch;
use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, Signal, WorkerSpec, skip, until};
use nix::sys::signal::kill;

const HOSTILE: &str = "hostile";
const NEIGHBOUR: &str = "neighbour";
const SHORT: Duration = Duration::from_millis(700);
const LONG: Duration = Duration::from_secs(20);

/// What contains the hostile worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    /// Only the containment that the backend under test always has.
    Plain,
    /// A cgroup in addition.
    Cgroup,
}

/// What is needed to stop a hostile worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// It exits on request.
    Nothing,
    /// Its descendants outlive their leader and are killed as descendants of the worker.
    Kill,
    /// Its worker is unknown. It is killed at the end of the shutdown and reported as a stray.
    KillAsStray,
    /// It is killed as a descendant of its worker, as a stray, or, if it moved during every scan of the daemon, by the
    /// guardian. Which of these happens varies.
    KillEitherWay,
    /// This backend may not find it, and it may survive. The report has no proof then.
    Escapes,
}

impl Takes {
    fn varies(self) -> bool {
        matches!(self, Self::KillEitherWay | Self::Escapes)
    }
}

/// How the test notices that the hostile worker has started.
#[derive(Clone, Copy)]
enum Visible {
    /// It has at least this number of descendants in the status.
    Below(u32),
    /// There is an orphan that runs sleep(1).
    AsOrphan,
    /// Its processes are so short-lived that not every scan of the process table has them.
    ShortLived,
}

/// A hostile worker: its name in the fixture worker, and what is needed to stop it with each kind of containment.
struct HostileWorker {
    name: &'static str,
    root: bool,
    visible: Visible,
    plain: Takes,
    cgroup: Takes,
    portable: Takes,
    /// Whether the portable backend can still find it after the daemon is gone, which had recorded its start.
    found_after_a_crash: bool,
    /// Whether it speaks MCP on its standard input and output.
    stdio: bool,
}

/// A hostile worker whose descendants are killed as descendants of the worker with each kind of containment.
const fn hostile(name: &'static str, descendants: u32) -> HostileWorker {
    let takes = Takes::Kill;
    let visible = Visible::Below(descendants);
    HostileWorker {
        name,
        root: false,
        visible,
        plain: takes,
        cgroup: takes,
        portable: takes,
        found_after_a_crash: true,
        stdio: false,
    }
}

impl HostileWorker {
    /// Skipped unless the test runs as root.
    const fn run_as_root(self) -> Self {
        Self { root: true, ..self }
    }

    const fn on_stdio(self) -> Self {
        Self { stdio: true, ..self }
    }

    fn takes(&self, container: Container) -> Takes {
        match (backend(), container) {
            (Backend::Portable, _) => self.portable,
            (Backend::Linux, Container::Plain) => self.plain,
            (Backend::Linux, Container::Cgroup) => self.cgroup,
        }
    }

    /// Ends the daemon twice, with an immediate restart in between.
    fn ends_twice(&self, container: Container, ends: [End; 2]) {
        if self.root && skip::unless_root() {
            return;
        }
        // It has no socket that it could send, and is not hostile then.
        if self.stdio && self.name == "listens" {
            return;
        }
        let why = "processes fork faster than it can list all of them";
        if matches!(self.visible, Visible::ShortLived) && skip::unless_linux_backend(why) {
            return;
        }
        let why = "without the daemon nothing shows to which worker it belongs";
        if ends.contains(&End::Crash) && !self.found_after_a_crash && skip::unless_linux_backend(why) {
            return;
        }
        let config = self.config(container);
        match container {
            Container::Plain => self.ends_each(config, container, ends),
            Container::Cgroup => {
                if skip::unless_linux_backend("it uses no cgroups") {
                    return;
                }
                let Some(scratch) = Scratch::make_or_skip() else { return };
                self.ends_each(config.env(CGROUP_VARIABLE, &scratch.text()), container, ends);
                assert_eq!(scratch.children(), [] as [&str; 0], "cgroups are left");
            }
        }
    }

    /// If it varies whether the hostile worker needs `SIGKILL`, its neighbour always needs it, so that the exit code does
    /// not vary.
    fn config(&self, container: Container) -> ConfigBuilder {
        let config = ConfigBuilder::new();
        let config = if self.takes(container).varies() {
            config.times(SHORT, SHORT).fixture(NEIGHBOUR, "--ignore-shutdown --ignore-term")
        } else {
            config.times(LONG, LONG).fixture(NEIGHBOUR, "")
        };
        let flags = format!("--zoo {}", self.name);
        config
            .worker(HOSTILE, if self.stdio { WorkerSpec::stdio(&flags) } else { WorkerSpec::fixture(&flags) })
    }

    fn ends_each(&self, config: ConfigBuilder, container: Container, [first, second]: [End; 2]) {
        let mut daemon = Daemon::launch(config);
        self.wait(&mut daemon);
        self.ends(&mut daemon, container, first);
        let mut again = daemon.launch_again();
        self.wait(&mut again);
        self.ends(&mut again, container, second);
    }

    fn wait(&self, daemon: &mut Daemon) {
        let (least, orphans) = match self.visible {
            Visible::Below(count) => (count, 0),
            Visible::AsOrphan => (0, 1),
            Visible::ShortLived => (0, 0),
        };
        daemon.wait_status("the hostile worker to start", |status| {
            status.workers.iter().all(|worker| {
                let has_started = worker.name.as_str() != HOSTILE || worker.descendants >= least;
                worker.state == WorkerState::Ready && has_started
            })
        });
        let short_lived = matches!(self.visible, Visible::ShortLived);
        until("a process of the hostile worker", BOUND, || {
            (!short_lived || daemon.processes().len() > 2).then_some(())
        });
        until("an orphan of the hostile worker", BOUND, || {
            (sleeping_orphans(daemon).len() >= orphans).then_some(())
        });
        daemon.remember();
    }

    fn ends(&self, daemon: &mut Daemon, container: Container, end: End) {
        let takes = self.takes(container);
        let orphans = sleeping_orphans(daemon);
        let report = match takes {
            Takes::KillEitherWay if end != End::Crash => stop_by_daemon_or_guardian(daemon, end),
            _ => end.stop(daemon, end.code(takes)),
        };
        check(&report, takes, end);
        if takes == Takes::Escapes {
            assert_eq!(report.proof, None, "the backend can't prove it");
            kill_remaining(&orphans);
        }
    }
}

/// Shuts down; the code has to be 5 if the guardian killed a process, else 3.
#[track_caller]
fn stop_by_daemon_or_guardian(daemon: &mut Daemon, end: End) -> ShutdownReport {
    let output = end.shut_down(daemon);
    daemon.wait_exit(LONGEST_SHUTDOWN);
    let is_left = |finding: &Finding| finding.kind == FindingKind::ProcessLeft;
    let code = if daemon.report().findings.iter().any(is_left) { 5 } else { 3 };
    assert_eq!(output.code, Some(code.into()), "{output:?}");
    daemon.assert_no_trace(code)
}

/// Kills the orphans that are still running; their start times are compared, because pids are reused.
fn kill_remaining(orphans: &[Process]) {
    for orphan in orphans {
        if let Some(left) = process::best_effort::read(orphan.pid).filter(|now| now.start == orphan.start) {
            let _ = kill(nix::unistd::Pid::from_raw(left.pid.get()), Signal::SIGKILL);
        }
    }
}

/// How the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// `mcpctl shutdown --wait`.
    Shutdown,
    /// `mcpctl shutdown --wait --now`.
    ShutdownNow,
    /// `kill -9` of the daemon; the guardian cleans up.
    Crash,
}

impl End {
    fn code(self, takes: Takes) -> u8 {
        match (self, takes) {
            (Self::Shutdown, Takes::Nothing | Takes::KillAsStray) => 0,
            // `KillEitherWay`: only if the guardian killed nothing.
            (Self::Shutdown, Takes::Kill | Takes::KillEitherWay | Takes::Escapes) => 3,
            (Self::ShutdownNow, _) => 3,
            (Self::Crash, _) => 101,
        }
    }

    fn shut_down(self, daemon: &mut Daemon) -> Output {
        if self == Self::ShutdownNow {
            // A stopped process can't exit before the SIGKILL arrives.
            stop_leader(daemon, NEIGHBOUR);
            return daemon.mcpctl(&["shutdown", "--wait", "--now"]);
        }
        daemon.mcpctl(&["shutdown", "--wait"])
    }

    fn stop(self, daemon: &mut Daemon, code: u8) -> ShutdownReport {
        if self == Self::Crash {
            daemon.signal_daemon(Signal::SIGKILL);
            return daemon.assert_cleaned_up(code);
        }
        let output = self.shut_down(daemon);
        let report = daemon.assert_no_trace(code);
        assert_eq!(output.code, Some(code.into()), "mcpctl disagrees: {output:?}");
        report
    }
}

#[track_caller]
fn stop_leader(daemon: &mut Daemon, worker: &str) {
    let leader = daemon.wait_state(worker, WorkerState::Ready).pid.expect("it runs");
    kill(nix::unistd::Pid::from_raw(leader.get()), Signal::SIGSTOP).expect("it runs");
    let is_stopped = || process::best_effort::read(leader).is_some_and(|found| found.state == 'T');
    until("the worker to be stopped", BOUND, || is_stopped().then_some(()));
}

fn check(report: &ShutdownReport, takes: Takes, end: End) {
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    let strays = report.findings.iter().filter(|finding| finding.detail.contains("belonged to no worker"));
    match takes {
        Takes::Kill if end == End::Shutdown => {
            assert!(kinds.contains(&FindingKind::DescendantsKilled), "{kinds:?}")
        }
        Takes::KillEitherWay | Takes::Escapes => {}
        Takes::KillAsStray if end != End::Crash => assert_eq!(strays.count(), 1, "{:#?}", report.findings),
        _ => assert_eq!(strays.count(), 0, "{:#?}", report.findings),
    }
}

/// Processes that run sleep(1) and were reparented to the daemon or to this test, which is a subreaper in place of init.
fn sleeping_orphans(daemon: &Daemon) -> Vec<Process> {
    let parents = [daemon.pid().get(), Pid::current().get()];
    let mut all = process::best_effort::all();
    all.retain(|found| found.name == "sleep" && found.state != 'Z' && parents.contains(&found.ppid));
    all
}

/// Five tests for each hostile worker.
macro_rules! zoo {
    ($($name:ident: $worker:expr;)+) => {$(
        mod $name {
            use super::*;

            const WORKER: HostileWorker = $worker;

            #[test]
            fn is_stopped() {
                WORKER.ends_twice(Container::Plain, [End::Shutdown, End::ShutdownNow]);
            }

            #[test]
            fn is_stopped_in_a_cgroup() {
                WORKER.ends_twice(Container::Cgroup, [End::Shutdown, End::ShutdownNow]);
            }

            #[test]
            fn does_not_outlive_a_crash() {
                WORKER.ends_twice(Container::Plain, [End::Crash, End::Crash]);
            }

            #[test]
            fn is_stopped_as_a_server_that_speaks_stdio() {
                WORKER.on_stdio().ends_twice(Container::Plain, [End::Shutdown, End::Crash]);
            }

            #[test]
            fn does_not_outlive_a_crash_in_a_cgroup() {
                WORKER.ends_twice(Container::Cgroup, [End::Crash, End::ShutdownNow]);
            }
        }
    )+};
}

zoo! {
    forks_faster_than_it_is_killed: HostileWorker { visible: Visible::ShortLived, ..hostile("forks", 0) };
    vforks_a_child_that_stops: hostile("vforks", 2);
    wanders_through_groups_and_sessions: HostileWorker {
        portable: Takes::KillEitherWay,
        ..hostile("wanders", 1)
    };
    traces_its_sibling: hostile("traces", 3);
    loses_its_leading_thread: HostileWorker {
        plain: Takes::Nothing, cgroup: Takes::Nothing, portable: Takes::Nothing,
        ..hostile("loses-its-leader", 0)
    };
    cannot_be_dumped: hostile("undumpable", 1);
    is_another_user: hostile("other-user", 1).run_as_root();
    tells_its_end_by_odd_signals: hostile("odd-signals", 2);
    is_a_subreaper_itself: hostile("own-subreaper", 2);
    has_a_pid_namespace: hostile("own-namespace", 3).run_as_root();
    overwrote_its_environment: hostile("overwritten", 1);
    // Without a cgroup nothing shows to which worker it belongs. The portable backend finds it by the output pipe of its
    // worker, which it holds open.
    has_no_mark: HostileWorker {
        visible: Visible::AsOrphan, plain: Takes::KillAsStray, found_after_a_crash: false,
        ..hostile("unmarked", 0)
    };
    has_no_mark_and_no_output: HostileWorker {
        visible: Visible::AsOrphan, plain: Takes::KillAsStray, portable: Takes::Escapes,
        found_after_a_crash: false, ..hostile("silent", 0)
    };
    listens_on_a_socket_it_was_sent: hostile("listens", 1);
    has_thousands_of_descendants: hostile("thousands", 2000);
}
