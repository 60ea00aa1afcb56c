//! Workers that misbehave: after the stop nothing is left, the exit code reports the signals that were needed, and all
//! workers start again at once (R-CONT-1 to 3, R-EXIT-1).
//!
//! Each is stopped twice: by `mcpctl shutdown --wait` and, after an immediate restart, by `SIGTERM`.

use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::{Backend, backend, process};
use mcpd_common::outcome::{Departure, FindingKind, ShutdownReport};
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Signal, http, skip, until};

const HOSTILE: &str = "hostile";
const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(700);

/// A worker that misbehaves. A second one exits on request.
struct Case {
    flags: &'static str,
    graceful: Duration,
    term: Duration,
    is_up: fn(&WorkerStatus) -> bool,
}

/// A case with long time limits; the worker is stopped when it is ready.
fn worker(flags: &'static str) -> Case {
    Case { flags, graceful: LONG, term: LONG, is_up: |worker| worker.state == WorkerState::Ready }
}

impl Case {
    /// A short graceful time, for a worker that does not exit on request.
    fn ignores_request(self) -> Self {
        Self { graceful: SHORT, ..self }
    }

    /// Short times, for a worker that exits neither on request nor on `SIGTERM`.
    fn ignores_sigterm(self) -> Self {
        Self { term: SHORT, ..self.ignores_request() }
    }

    /// The worker is stopped when this is true for it.
    fn once(self, is_up: fn(&WorkerStatus) -> bool) -> Self {
        Self { is_up, ..self }
    }

    /// Stops it twice; each time the code and the kind of its findings are these.
    fn ends_with(self, code: u8, kind: Option<FindingKind>) -> ShutdownReport {
        let config = ConfigBuilder::new().times(self.graceful, self.term);
        let mut daemon = Daemon::launch(config.fixture("graceful", "").fixture(HOSTILE, self.flags));
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

/// After three restarts the backoff delay is more than a second.
fn is_backing_off_for_a_second(worker: &WorkerStatus) -> bool {
    worker.state == WorkerState::BackingOff && worker.restarts >= 3
}

/// Their number changes all the time.
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
fn no_shutdown_route_and_exit_143() {
    worker("--no-shutdown-route --term-exit 143").ends_with(0, None);
}

#[test]
fn never_responds_to_the_stop_request() {
    let case = worker("--shutdown-never-answers").ignores_request();
    case.ends_with(2, Some(FindingKind::WorkerTerminated));
}

#[test]
fn responds_to_the_stop_request_with_500() {
    let report = worker("--shutdown-status 500").ends_with(2, Some(FindingKind::WorkerTerminated));
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == HOSTILE).expect("its row");
    assert_eq!(worker.answer.as_deref(), Some("500"));
}

#[test]
fn ignores_the_stop_request() {
    worker("--ignore-shutdown").ignores_request().ends_with(2, Some(FindingKind::WorkerTerminated));
}

#[test]
fn exits_slowly() {
    worker("--slow-exit 1000").ends_with(0, None);
}

#[test]
fn exits_too_slowly() {
    worker("--slow-exit 60000").ignores_sigterm().ends_with(3, Some(FindingKind::WorkerKilled));
}

#[test]
fn ignores_sigterm() {
    let case = worker("--ignore-shutdown --ignore-term").ignores_sigterm();
    let report = case.ends_with(3, Some(FindingKind::WorkerKilled));
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == HOSTILE).expect("its row");
    assert_eq!(worker.departure, Departure::Killed);
}

/// R-SHUT-9: `SIGCONT` is sent with the stop request, so that a stopped worker can exit.
#[test]
fn is_stopped_by_sigstop() {
    let is_stopped =
        |worker: &WorkerStatus| worker.state == WorkerState::Ready && state_of(worker.pid) == Some('T');
    let case = worker("--stop-self").ignores_request().once(is_stopped);
    case.ends_with(0, None);
}

#[test]
fn exits_at_once() {
    let report = worker("--exit-at-once 7").once(is_backing_off_for_a_second).ends_with(0, None);
    let worker = report.workers.iter().find(|worker| worker.name.as_str() == HOSTILE).expect("its row");
    assert_eq!(worker.departure, Departure::NotRunning);
}

#[test]
fn crash_loops() {
    worker("--crash-after 30").once(is_backing_off_for_a_second).ends_with(0, None);
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
fn has_zombies() {
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
fn its_children_escape() {
    let case = worker("--escape-polite 3").once(|worker| is_ready_with(worker, 3));
    case.ends_with(2, Some(FindingKind::DescendantsTerminated));
}

/// In another session, with an empty environment, ignoring `SIGTERM`.
#[test]
fn its_children_escape_and_ignore_sigterm() {
    let case = worker("--escape 3").once(|worker| is_ready_with(worker, 3));
    case.ends_with(3, Some(FindingKind::DescendantsKilled));
}

#[test]
fn hands_its_socket_to_a_child() {
    let case = worker("--hand-over-socket");
    case.ends_with(2, Some(FindingKind::DescendantsTerminated));
}

#[test]
fn its_leader_exits_first_like_npx() {
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

#[test]
fn all_kinds_at_once() {
    let mut config = ConfigBuilder::new().times(SHORT, SHORT).fixture("graceful", "");
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

/// Why the tests with a fork bomb are skipped on the portable backend.
const BOMBS: &str = "on a busy machine processes fork faster than it can list all of them";

/// The workers that the backend under test has to stop.
fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let with_bomb = backend() == Backend::Linux;
    ALL.into_iter().filter(move |(name, _)| with_bomb || *name != "bomb")
}

const ALL: [(&str, &str); 8] = [
    ("stubborn", "--ignore-shutdown --ignore-term"),
    ("silent", "--shutdown-never-answers"),
    ("tree", "--tree 2 3"),
    ("escape", "--escape 3"),
    ("heir", "--hand-over-socket"),
    ("npx", "--leader-exits"),
    ("zombies", "--zombies 5"),
    ("bomb", "--fork-bomb 30"),
];

/// R-CONT-3.
#[test]
fn stop_and_restart_kill_the_worker_s_own_descendants_and_no_others() {
    let mut config = ConfigBuilder::new().times(SHORT, SHORT).fixture("graceful", "--tree 1 2");
    for (name, flags) in all() {
        config = config.fixture(name, flags);
    }
    let mut daemon = Daemon::start(config);
    let graceful = pids_below(&daemon, "graceful", 3);
    let names: Vec<_> = all().map(|(name, _)| name).collect();

    daemon.mcpctl(&[&["restart"], names.as_slice()].concat()).expect_code(0);
    let restarted = daemon.wait_status("all workers", |status| {
        status.workers.iter().all(|worker| worker.state == WorkerState::Ready)
    });
    assert_eq!(restarts(&restarted, "stubborn"), 1);
    assert_eq!(restarts(&restarted, "graceful"), 0);
    assert_eq!(pids_below(&daemon, "graceful", 3), graceful);

    daemon.mcpctl(&[&["stop"], names.as_slice()].concat()).expect_code(0);
    let mut left: Vec<_> = daemon.processes().iter().map(|found| found.pid).collect();
    left.sort();
    assert_eq!(left, graceful, "only the graceful worker and its descendants");
    for name in &names {
        daemon.wait_state(name, WorkerState::Stopped);
        assert!(mcpd_tests::ports::is_free(daemon.port(name)), "port of {name}");
    }
    assert_eq!(
        http::request(daemon.port("graceful"), "GET /health").expect("the worker responds").status,
        200
    );

    daemon.mcpctl(&[&["start"], names.as_slice()].concat()).expect_code(0);
    assert_eq!(pids_below(&daemon, "graceful", 3), graceful);
    daemon.assert_shuts_down(3);
}

fn restarts(status: &StatusReport, name: &str) -> u32 {
    status.workers.iter().find(|worker| worker.name.as_str() == name).expect("a known worker").restarts
}

/// The worker's leader and its descendants, once there are `count` of them.
fn pids_below(daemon: &Daemon, name: &str, count: usize) -> Vec<Pid> {
    let health = http::request(daemon.port(name), "GET /health").expect("the worker responds").json();
    let leader = health["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
    let leader = leader.expect("a pid");
    until("the worker's processes", BOUND, || {
        let tree = process::best_effort::tree(leader).into_iter().map(|found| found.pid);
        let mut all: Vec<_> = tree.chain([leader]).collect();
        all.sort();
        all.dedup();
        (all.len() == count).then_some(all)
    })
}
