//! Every way of misbehaving: after the stop nothing is left, the code says what it took, and an
//! immediate restart has all workers (R-CONT-1 to 3, R-EXIT-1).
//!
//! Each is stopped twice, by `mcpctl shutdown --wait` and, restarted without a pause, by `SIGTERM`.

use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::{Backend, backend, process};
use mcpd_common::outcome::{Departure, FindingKind, ShutdownReport};
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, http, skip, until};

const HOSTILE: &str = "hostile";
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(700);

/// A worker that misbehaves, beside one that does not.
struct Case {
    flags: &'static str,
    graceful: Duration,
    term: Duration,
    is_up: fn(&WorkerStatus) -> bool,
}

/// A worker with time enough for everything, to be stopped when it is ready.
fn worker(flags: &'static str) -> Case {
    Case { flags, graceful: LONG, term: LONG, is_up: |worker| worker.state == WorkerState::Ready }
}

impl Case {
    /// It won't exit on request, so the wait for that is short.
    fn unasked(self) -> Self {
        Self { graceful: SHORT, ..self }
    }

    /// It won't exit upon `SIGTERM` either.
    fn unmoved(self) -> Self {
        Self { term: SHORT, ..self.unasked() }
    }

    /// It is stopped when it is like this.
    fn once(self, is_up: fn(&WorkerStatus) -> bool) -> Self {
        Self { is_up, ..self }
    }

    /// Both stops end with this code and with this finding about it.
    fn ends_with(self, code: u8, kind: Option<FindingKind>) -> ShutdownReport {
        let config = ConfigBuilder::new().times(self.graceful, self.term);
        let mut daemon = Daemon::launch(config.fixture("polite", "").fixture(HOSTILE, self.flags));
        self.wait(&mut daemon);
        check(&daemon.assert_shuts_down(code), kind);

        let mut again = daemon.launch_again();
        self.wait(&mut again);
        again.signal(Signal::SIGTERM);
        let report = again.assert_no_trace(code);
        check(&report, kind);
        report
    }

    fn wait(&self, daemon: &mut Daemon) {
        daemon.wait_status("both workers", |status| {
            status.workers.iter().all(|worker| match worker.name.as_str() {
                HOSTILE => (self.is_up)(worker),
                _ => worker.state == WorkerState::Ready,
            })
        });
    }
}

fn check(report: &ShutdownReport, kind: Option<FindingKind>) {
    let about = |name| report.findings.iter().filter(move |finding| finding.subject == name);
    let kinds: Vec<_> = about(HOSTILE).map(|finding| finding.kind).collect();
    match kind {
        Some(kind) => assert!(kinds.contains(&kind), "{kinds:?}"),
        None => assert!(kinds.iter().all(|kind| *kind == FindingKind::Information), "{kinds:?}"),
    }
}

fn is_ready_with(worker: &WorkerStatus, descendants: u32) -> bool {
    worker.state == WorkerState::Ready && worker.descendants == descendants
}

/// After three quick deaths the next start is more than a second away.
fn dead_for_a_second(worker: &WorkerStatus) -> bool {
    worker.state == WorkerState::BackingOff && worker.restarts >= 3
}

/// Their number changes all the time: some are always being replaced.
fn is_ready_with_a_bomb(worker: &WorkerStatus) -> bool {
    worker.state == WorkerState::Ready && worker.descendants > 50
}

fn state_of(pid: Option<Pid>) -> Option<char> {
    Some(process::best_effort::read(pid?)?.state)
}

#[test]
fn no_shutdown_route() {
    worker("--no-shutdown-route").ends_with(0, None);
}

#[test]
fn no_shutdown_route_and_status_143() {
    worker("--no-shutdown-route --term-exit 143").ends_with(0, None);
}

#[test]
fn a_request_to_exit_that_is_never_answered() {
    let case = worker("--shutdown-never-answers").unasked();
    case.ends_with(2, Some(FindingKind::WorkerTerminated));
}

#[test]
fn a_request_to_exit_that_fails() {
    let report = worker("--shutdown-status 500").ends_with(2, Some(FindingKind::WorkerTerminated));
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == HOSTILE).expect("its row");
    assert_eq!(worker.answer.as_deref(), Some("500"));
}

#[test]
fn an_accepted_request_to_exit_that_is_ignored() {
    worker("--ignore-shutdown").unasked().ends_with(2, Some(FindingKind::WorkerTerminated));
}

#[test]
fn slow() {
    worker("--slow-exit 1000").ends_with(0, None);
}

#[test]
fn slower_than_its_time() {
    worker("--slow-exit 60000").unmoved().ends_with(3, Some(FindingKind::WorkerKilled));
}

#[test]
fn deaf_to_sigterm() {
    let case = worker("--ignore-shutdown --ignore-term").unmoved();
    let report = case.ends_with(3, Some(FindingKind::WorkerKilled));
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == HOSTILE).expect("its row");
    assert_eq!(worker.departure, Departure::Killed);
}

/// R-SHUT-9: `SIGCONT` comes with the stop request, so that a stopped worker can answer it.
#[test]
fn stopped() {
    let is_stopped =
        |worker: &WorkerStatus| worker.state == WorkerState::Ready && state_of(worker.pid) == Some('T');
    let case = worker("--stop-self").unasked().once(is_stopped);
    case.ends_with(0, None);
}

#[test]
fn exits_at_once() {
    let report = worker("--exit-at-once 7").once(dead_for_a_second).ends_with(0, None);
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == HOSTILE).expect("its row");
    assert_eq!(worker.departure, Departure::NotRunning);
}

#[test]
fn crash_loops() {
    worker("--crash-after 30").once(dead_for_a_second).ends_with(0, None);
}

#[test]
fn never_ready() {
    worker("--never-ready").once(|worker| worker.state == WorkerState::Starting).ends_with(0, None);
}

#[test]
fn floods_its_output() {
    worker("--flood").ends_with(0, None);
}

#[test]
fn leaves_zombies() {
    let zombies = |worker: &WorkerStatus| {
        let children = worker.pid.map(process::best_effort::children).unwrap_or_default();
        let zombies = children.into_iter().filter(|pid| state_of(Some(*pid)) == Some('Z')).count();
        worker.state == WorkerState::Ready && zombies == 5
    };
    worker("--zombies 5").once(zombies).ends_with(0, None);
}

#[test]
fn forks_trees() {
    worker("--tree 3 3")
        .once(|worker| is_ready_with(worker, 3 + 9 + 27))
        .ends_with(2, Some(FindingKind::DescendantsTerminated));
}

#[test]
fn its_polite_children_escape() {
    let case = worker("--escape-polite 3").once(|worker| is_ready_with(worker, 3));
    case.ends_with(2, Some(FindingKind::DescendantsTerminated));
}

/// In another session, with an empty environment, ignoring `SIGTERM`.
#[test]
fn its_stubborn_children_escape() {
    let case = worker("--escape 3").once(|worker| is_ready_with(worker, 3));
    case.ends_with(3, Some(FindingKind::DescendantsKilled));
}

#[test]
fn hands_its_socket_to_a_child() {
    let case = worker("--hand-over-socket");
    case.ends_with(2, Some(FindingKind::DescendantsTerminated));
}

#[test]
fn leaves_its_worker_behind_like_npx() {
    worker("--leader-exits").ends_with(2, Some(FindingKind::DescendantsTerminated));
}

#[test]
fn keeps_forking_while_it_is_killed() {
    if skip::unless_linux_backend(BOMBS) {
        return;
    }
    let case = worker("--fork-bomb 100").once(is_ready_with_a_bomb);
    case.ends_with(3, Some(FindingKind::DescendantsKilled));
}

/// All of the above at once.
#[test]
fn everything_at_once() {
    let mut config = ConfigBuilder::new().times(SHORT, SHORT).fixture("polite", "");
    for (name, flags) in all() {
        config = config.fixture(name, flags);
    }
    let mut daemon = Daemon::start(config);
    daemon.assert_shuts_down(3);
    let mut again = daemon.launch_again();
    again.wait_ready();
    again.signal(Signal::SIGTERM);
    again.assert_no_trace(3);
}

/// Why the portable backend is not held to this.
const BOMBS: &str = "on a busy machine processes fork faster than it can list all of them";

/// Those that the backend under test is held to.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let bombs_too = backend() == Backend::Linux;
    ALL.into_iter().filter(move |(name, _)| bombs_too || *name != "bomb")
}

const ALL: [(&str, &str); 8] = [
    ("deaf", "--ignore-shutdown --ignore-term"),
    ("silent", "--shutdown-never-answers"),
    ("tree", "--tree 2 3"),
    ("escape", "--escape 3"),
    ("heir", "--hand-over-socket"),
    ("npx", "--leader-exits"),
    ("zombies", "--zombies 5"),
    ("bomb", "--fork-bomb 30"),
];

/// R-CONT-3: stop and restart of a worker end its own descendants and no others.
#[test]
fn the_stop_of_one_worker_is_complete_and_touches_no_other() {
    let mut config = ConfigBuilder::new().times(SHORT, SHORT).fixture("polite", "--tree 1 2");
    for (name, flags) in all() {
        config = config.fixture(name, flags);
    }
    let mut daemon = Daemon::start(config);
    let polite = pids_below(&daemon, "polite", 3);
    let names: Vec<_> = all().map(|(name, _)| name).collect();

    daemon.mcpctl(&[&["restart"], names.as_slice()].concat()).expect_code(0);
    let restarted = daemon.wait_status("all of them again", |status| {
        status.workers.iter().all(|worker| worker.state == WorkerState::Ready)
    });
    assert_eq!(restarts(&restarted, "deaf"), 1);
    assert_eq!(restarts(&restarted, "polite"), 0);
    assert_eq!(pids_below(&daemon, "polite", 3), polite);

    daemon.mcpctl(&[&["stop"], names.as_slice()].concat()).expect_code(0);
    let mut left: Vec<_> = daemon.processes().iter().map(|found| found.pid).collect();
    left.sort();
    assert_eq!(left, polite, "only the polite one and its children");
    for name in &names {
        daemon.wait_state(name, WorkerState::Stopped);
        assert!(mcpd_tests::ports::is_free(daemon.port(name)), "port of {name}");
    }
    assert_eq!(http::ask(daemon.port("polite"), "GET /health").expect("it serves").status, 200);

    daemon.mcpctl(&[&["start"], names.as_slice()].concat()).expect_code(0);
    assert_eq!(pids_below(&daemon, "polite", 3), polite);
    daemon.assert_shuts_down(3);
}

fn restarts(status: &StatusReport, name: &str) -> u32 {
    status.workers.iter().find(|worker| worker.name.as_str() == name).expect("it is there").restarts
}

/// The worker's leader and its descendants, once there are `count` of them.
fn pids_below(daemon: &Daemon, name: &str, count: usize) -> Vec<Pid> {
    let health = http::ask(daemon.port(name), "GET /health").expect("it serves").json();
    let leader = health["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    let leader = leader.expect("a pid");
    until("its processes", BOUND, || {
        let tree = process::best_effort::tree(leader).into_iter().map(|found| found.pid);
        let mut all: Vec<_> = tree.chain([leader]).collect();
        all.sort();
        all.dedup();
        (all.len() == count).then_some(all)
    })
}
