//! The hostile zoo, part 2: whatever a worker's children do to themselves, a stop leaves nothing, and a
//! restart at once comes up; so with a crash of the daemon (R-CONT-1 to 5, R-CONT-7).
//!
//! Each animal is stopped without a cgroup and, where the machine gives one, in one; with
//! `MCPD_BACKEND=portable` by what macOS has as well. What an animal costs by each is in the table.

use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::cgroup::CGROUP_VARIABLE;
use mcpd_common::os::process::{self, Process};
use mcpd_common::os::{Backend, backend};
use mcpd_common::outcome::{FindingKind, ShutdownReport};
use mcpd_common::status::WorkerState;
use mcpd_tests::cgroup::Scratch;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, Signal, skip, until};
use nix::sys::signal::kill;

const ANIMAL: &str = "animal";
const LONG: Duration = Duration::from_secs(20);

/// What holds the animal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cage {
    /// What the backend under test always has.
    Plain,
    /// A cgroup, too.
    Cgroup,
}

/// What an animal takes in a stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// It leaves when asked.
    Nothing,
    /// Its descendants outlive their leader and are killed as its own.
    Kill,
    /// Nobody can say whose it is: it ends with the daemon, which tells it.
    KillAsStray,
    /// It is killed, as its worker's or as a stray: which of the two is chance.
    KillEitherWay,
    /// This backend finds it only by chance, else it stays. The report proves nothing then.
    Escapes,
}

/// How it is known from outside that the animal is there.
#[derive(Clone, Copy)]
enum Visible {
    /// As so many descendants of its worker, at least.
    Below(u32),
    /// As sleep(1), an orphan.
    AsOrphan,
    /// Only from outside, and only now and then.
    InPassing,
}

/// An animal: its name in the fixture, and what it takes where.
struct Animal {
    name: &'static str,
    root: bool,
    visible: Visible,
    plain: Takes,
    cgroup: Takes,
    portable: Takes,
    /// Whether the portable backend can still recognise it when the daemon, and with it all that was
    /// seen before, is gone.
    outlives_memory: bool,
}

/// One whose descendants are killed as its worker's, whatever holds it.
const fn animal(name: &'static str, descendants: u32) -> Animal {
    let takes = Takes::Kill;
    let visible = Visible::Below(descendants);
    Animal { name, root: false, visible, plain: takes, cgroup: takes, portable: takes, outlives_memory: true }
}

impl Animal {
    /// Only root can start it.
    const fn of_root(self) -> Self {
        Self { root: true, ..self }
    }

    fn takes(&self, cage: Cage) -> Takes {
        match (backend(), cage) {
            (Backend::Portable, _) => self.portable,
            (Backend::Linux, Cage::Plain) => self.plain,
            (Backend::Linux, Cage::Cgroup) => self.cgroup,
        }
    }

    /// Ends twice, with a restart at once between the two.
    fn ends_twice(&self, cage: Cage, ends: [End; 2]) {
        let what = format!("the animal {}", self.name);
        if self.root && !skip::is_root_or_skip(&what) {
            return;
        }
        let storm = "processes come and go faster than it can look at all of them";
        if matches!(self.visible, Visible::InPassing) && !skip::is_linux_backend_or_skip(&what, storm) {
            return;
        }
        let memory = "nothing tells whose it is when the daemon is gone";
        if ends.contains(&End::Crash)
            && !self.outlives_memory
            && !skip::is_linux_backend_or_skip(&what, memory)
        {
            return;
        }
        let config = ConfigBuilder::new().times(LONG, LONG);
        let config = config.fixture("polite", "").fixture(ANIMAL, &format!("--zoo {}", self.name));
        match cage {
            Cage::Plain => self.ends_each(config, cage, ends),
            Cage::Cgroup => {
                if !skip::is_linux_backend_or_skip(&what, "it does without cgroups") {
                    return;
                }
                let Some(scratch) = Scratch::make(&what) else { return };
                self.ends_each(config.env(CGROUP_VARIABLE, &scratch.text()), cage, ends);
                assert_eq!(scratch.children(), [] as [&str; 0], "cgroups are left");
            }
        }
    }

    fn ends_each(&self, config: ConfigBuilder, cage: Cage, [first, second]: [End; 2]) {
        let mut daemon = Daemon::launch(config);
        self.wait(&mut daemon);
        self.ends(&mut daemon, cage, first);
        let mut again = daemon.launch_again();
        self.wait(&mut again);
        self.ends(&mut again, cage, second);
    }

    fn wait(&self, daemon: &mut Daemon) {
        let (least, orphans) = match self.visible {
            Visible::Below(count) => (count, 0),
            Visible::AsOrphan => (0, 1),
            Visible::InPassing => (0, 0),
        };
        daemon.wait_status("the animal", |status| {
            status.workers.iter().all(|worker| {
                let is_there = worker.name.as_str() != ANIMAL || worker.descendants >= least;
                worker.state == WorkerState::Ready && is_there
            })
        });
        let passing = matches!(self.visible, Visible::InPassing);
        until("it to pass", BOUND, || (!passing || daemon.processes().len() > 2).then_some(()));
        until("its orphan", BOUND, || (sleeping_orphans(daemon).len() >= orphans).then_some(()));
        daemon.remember();
    }

    fn ends(&self, daemon: &mut Daemon, cage: Cage, end: End) {
        let takes = self.takes(cage);
        if takes == Takes::Escapes {
            return self.may_escape(daemon, end);
        }
        if takes == Takes::KillEitherWay && end == End::Shutdown {
            let (report, code) = by_chance(daemon, end);
            return check(&report, if code == 0 { Takes::KillAsStray } else { Takes::Kill }, end);
        }
        // A worker that leaves when asked may be faster than the kill that comes at once.
        if takes != Takes::Kill && end == End::ShutdownNow {
            by_chance(daemon, end);
            return;
        }
        let code = end.code(takes);
        let report = end.stop(daemon, code);
        check(&report, takes, end);
    }

    /// Whether it was seen before it gave up everything is chance. What is claimed is not more than is
    /// known either way.
    fn may_escape(&self, daemon: &mut Daemon, end: End) {
        let orphans = sleeping_orphans(daemon);
        let (report, _) = by_chance(daemon, end);
        assert_eq!(report.proof, None, "nothing is proved that is not known");
        for orphan in orphans {
            // Still the same: nobody else's process is touched.
            if let Some(left) = process::best_effort::read(orphan.pid).filter(|now| now.start == orphan.start)
            {
                let _ = kill(nix::unistd::Pid::from_raw(left.pid.get()), Signal::SIGKILL);
            }
        }
    }
}

/// A stop that costs a kill, or nothing, as chance will have it.
fn by_chance(daemon: &mut Daemon, end: End) -> (ShutdownReport, u8) {
    let output = end.ask(daemon);
    let code = output.code.and_then(|code| u8::try_from(code).ok()).filter(|code| [0, 3].contains(code));
    let code = code.unwrap_or_else(|| panic!("{output:?}"));
    (daemon.assert_no_trace(code), code)
}

/// How the daemon ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// `mcpctl shutdown --wait`.
    Shutdown,
    /// `mcpctl shutdown --wait --now`.
    ShutdownNow,
    /// `kill -9` of the daemon; its guardian does the rest.
    Crash,
}

impl End {
    fn code(self, takes: Takes) -> u8 {
        match (self, takes) {
            (Self::Shutdown, Takes::Nothing | Takes::KillAsStray | Takes::Escapes) => 0,
            (Self::Shutdown, Takes::Kill | Takes::KillEitherWay) | (Self::ShutdownNow, _) => 3,
            (Self::Crash, _) => 101,
        }
    }

    fn ask(self, daemon: &Daemon) -> Output {
        match self {
            Self::ShutdownNow => daemon.mcpctl(&["shutdown", "--wait", "--now"]),
            Self::Shutdown | Self::Crash => daemon.mcpctl(&["shutdown", "--wait"]),
        }
    }

    fn stop(self, daemon: &mut Daemon, code: u8) -> ShutdownReport {
        if self == Self::Crash {
            daemon.signal_daemon(Signal::SIGKILL);
            return daemon.assert_cleaned_up(code);
        }
        let output = self.ask(daemon);
        let report = daemon.assert_no_trace(code);
        assert_eq!(output.code, Some(code.into()), "mcpctl disagrees: {output:?}");
        report
    }
}

fn check(report: &ShutdownReport, takes: Takes, end: End) {
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    let strays = report.findings.iter().filter(|finding| finding.detail.contains("belonged to no worker"));
    match takes {
        Takes::Kill if end == End::Shutdown => {
            assert!(kinds.contains(&FindingKind::DescendantsKilled), "{kinds:?}")
        }
        Takes::KillEitherWay => {}
        Takes::KillAsStray if end != End::Crash => assert_eq!(strays.count(), 1, "{:#?}", report.findings),
        _ => assert_eq!(strays.count(), 0, "{:#?}", report.findings),
    }
}

/// Those that gave up parent and session: children of the daemon, or of us, who stand in for init.
fn sleeping_orphans(daemon: &Daemon) -> Vec<Process> {
    let parents = [daemon.pid().get(), Pid::current().get()];
    let mut all = process::best_effort::all();
    all.retain(|found| found.name == "sleep" && found.state != 'Z' && parents.contains(&found.ppid));
    all
}

/// A test for each animal and cage.
macro_rules! zoo {
    ($($name:ident: $animal:expr;)+) => {$(
        mod $name {
            use super::*;

            const ANIMAL: Animal = $animal;

            #[test]
            fn is_stopped() {
                ANIMAL.ends_twice(Cage::Plain, [End::Shutdown, End::ShutdownNow]);
            }

            #[test]
            fn is_stopped_in_a_cgroup() {
                ANIMAL.ends_twice(Cage::Cgroup, [End::Shutdown, End::ShutdownNow]);
            }

            #[test]
            fn does_not_outlive_a_crash() {
                ANIMAL.ends_twice(Cage::Plain, [End::Crash, End::Crash]);
            }

            #[test]
            fn does_not_outlive_a_crash_in_a_cgroup() {
                ANIMAL.ends_twice(Cage::Cgroup, [End::Crash, End::ShutdownNow]);
            }
        }
    )+};
}

zoo! {
    forks_faster_than_it_is_killed: Animal { visible: Visible::InPassing, ..animal("forks", 0) };
    vforks_a_child_that_stops: animal("vforks", 2);
    wanders_through_groups_and_sessions: Animal {
        portable: Takes::KillEitherWay,
        ..animal("wanders", 1)
    };
    traces_its_sibling: animal("traces", 3);
    loses_its_leading_thread: Animal {
        plain: Takes::Nothing, cgroup: Takes::Nothing, portable: Takes::Nothing,
        ..animal("loses-its-leader", 0)
    };
    cannot_be_dumped: animal("undumpable", 1);
    is_another_user: animal("other-user", 1).of_root();
    tells_its_end_by_odd_signals: animal("odd-signals", 2);
    is_a_subreaper_itself: animal("own-subreaper", 2);
    has_a_pid_namespace: animal("own-namespace", 3).of_root();
    overwrote_its_environment: animal("overwritten", 1);
    // Without its cgroup nothing says whose it is; the portable backend sees whose output it holds.
    has_no_mark: Animal {
        visible: Visible::AsOrphan, plain: Takes::KillAsStray, outlives_memory: false,
        ..animal("unmarked", 0)
    };
    has_no_mark_and_no_output: Animal {
        visible: Visible::AsOrphan, plain: Takes::KillAsStray, portable: Takes::Escapes,
        outlives_memory: false, ..animal("silent", 0)
    };
    listens_on_a_socket_it_was_sent: animal("listens", 1);
    has_thousands_of_descendants: animal("thousands", 2000);
}
