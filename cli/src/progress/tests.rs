//! The output for a shutdown of three workers: the first exits on request, the second needs `SIGTERM`, the third
//! `SIGKILL` (R-SHUT-4).

use mcpd_common::event::{EventKind, ShutdownEvent, WorkerStep};
use mcpd_common::outcome::{Asked, Departure, ExitStatus, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::{View, event_line, phase_table};
use crate::color::Palette;
use crate::document::Document;
use crate::test_data::{at, clock, name, pid, report, run};

fn worker(text: &str, number: i32, step: WorkerStep) -> EventKind {
    EventKind::Worker { name: name(text), pid: Some(pid(number)), step }
}

fn left(departure: Departure, exit: ExitStatus, after_ms: u64) -> WorkerStep {
    WorkerStep::Left { departure, exit: Some(exit), after_ms }
}

fn signalled(signal: &str, why: &str) -> WorkerStep {
    WorkerStep::Signalled { signal: signal.to_owned(), why: why.to_owned() }
}

fn finished(phase: Phase, outcome: PhaseOutcome, duration_ms: u64, summary: &str) -> EventKind {
    EventKind::PhaseFinished { phase, outcome, duration_ms, summary: summary.to_owned() }
}

/// Events, each with the milliseconds since the start of the shutdown.
type Events = Vec<(u64, EventKind)>;

/// The events of the graceful phase, then those until the end.
fn events() -> (Events, Events) {
    let workers = vec![name("alpha"), name("docs"), name("web-frontend")];
    let started = EventKind::Started { run: run(), reason: "manual".to_owned(), workers, limit_ms: 81_000 };
    let asked = |text, number| worker(text, number, WorkerStep::Asked { how: Asked::Http });
    let answered =
        |text, number, answer: &str| worker(text, number, WorkerStep::Answered { answer: answer.to_owned() });
    let graceful = vec![
        (0, started),
        (0, EventKind::PhaseStarted { phase: Phase::WorkersGraceful, limit_ms: 10_000 }),
        (1, asked("alpha", 4711)),
        (1, asked("docs", 4712)),
        (1, asked("web-frontend", 4713)),
        (3, answered("alpha", 4711, "202")),
        (12, worker("alpha", 4711, left(Departure::Left, ExitStatus::Code(0), 12))),
        (
            2_000,
            EventKind::Waiting {
                phase: Phase::WorkersGraceful,
                remaining: vec!["docs (pid 4712)".to_owned()],
            },
        ),
        (5_001, answered("docs", 4712, "no answer within 5 s")),
        (5_001, worker("docs", 4712, signalled("SIGTERM", "no answer within 5 s"))),
        (5_009, worker("docs", 4712, left(Departure::Terminated, ExitStatus::Code(143), 5_008))),
    ];
    let terminate = vec![
        (10_000, finished(Phase::WorkersGraceful, PhaseOutcome::Deadline, 10_000, "2 of 3 workers left")),
        (10_001, EventKind::PhaseStarted { phase: Phase::WorkersTerminate, limit_ms: 20_000 }),
        (10_001, worker("web-frontend", 4713, signalled("SIGTERM", "still there after 10 s"))),
        (30_001, worker("web-frontend", 4713, signalled("SIGKILL", "still there after 20 s"))),
        (30_004, worker("web-frontend", 4713, left(Departure::Killed, ExitStatus::Signal(9), 30_004))),
        (30_004, finished(Phase::WorkersTerminate, PhaseOutcome::Findings, 20_003, "1 of 1 worker left")),
    ];
    (graceful, terminate)
}

fn event((elapsed_ms, kind): (u64, EventKind)) -> ShutdownEvent {
    ShutdownEvent { seq: 0, at: at("14:00:00.5"), elapsed_ms, kind }
}

fn view(events: impl IntoIterator<Item = (u64, EventKind)>) -> View {
    let mut view = View::default();
    events.into_iter().map(event).for_each(|event| view.apply(&event));
    view
}

fn shown(view: &View, elapsed_ms: u64, rows: usize) -> String {
    let mut doc = Document::new(Palette::Plain, 80);
    phase_table::phase(&mut doc, view, elapsed_ms, rows);
    doc.into_text()
}

#[test]
fn a_running_phase_shows_elapsed_time_and_limit() {
    let (graceful, _) = events();
    insta::assert_snapshot!(shown(&view(graceful), 5_100, 40), @r"
    workers-graceful     5.10 s of 10 s
      WORKER         PID  ASKED  ANSWER                ENDED                 AFTER
      alpha         4711  POST   202                   exit 0                12 ms
      docs          4712  POST   no answer within 5 s  after SIGTERM: exit  5.00 s
                                                       143
      web-frontend  4713  POST   -                     still there               -
    still waiting for docs (pid 4712)
    ");
}

#[test]
fn a_finished_phase_shows_outcome_and_summary() {
    let (graceful, mut terminate) = events();
    let rest = terminate.split_off(1);
    let mut view = view(graceful.into_iter().chain(terminate));
    insta::assert_snapshot!(shown(&view, 0, 40), @r"
    workers-graceful     10.0 s  timed out: 2 of 3 workers left
      WORKER         PID  ASKED  ANSWER                ENDED                 AFTER
      alpha         4711  POST   202                   exit 0                12 ms
      docs          4712  POST   no answer within 5 s  after SIGTERM: exit  5.00 s
                                                       143
      web-frontend  4713  POST   -                     still there               -
    ");
    rest.into_iter().map(event).for_each(|event| view.apply(&event));
    insta::assert_snapshot!(shown(&view, 0, 40), @r"
    workers-terminate    20.0 s  findings: 1 of 1 worker left
      WORKER         PID  ASKED  ANSWER  ENDED        AFTER
      web-frontend  4713  POST   -       by SIGKILL  30.0 s
    ");
}

#[test]
fn a_short_table_shows_running_workers_first() {
    let (graceful, _) = events();
    insta::assert_snapshot!(shown(&view(graceful), 5_100, 1), @r"
    workers-graceful     5.10 s of 10 s
      WORKER         PID  ASKED  ANSWER  ENDED        AFTER
      web-frontend  4713  POST   -       still there      -
      and 2 more
    still waiting for docs (pid 4712)
    ");
}

#[test]
fn checks_and_clients_are_tables() {
    let verified = |check: &str, passed, evidence: &str| EventKind::Verified {
        check: check.to_owned(),
        passed,
        evidence: evidence.to_owned(),
        duration_ms: 2,
    };
    let checks = view([
        (0, EventKind::PhaseStarted { phase: Phase::Verification, limit_ms: 15_000 }),
        (1, verified("processes", true, "waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD")),
        (3, verified("ports", false, "port 8082 is held by python3 -m http.server 8082 (pid 991, user kim)")),
        (4, finished(Phase::Verification, PhaseOutcome::Findings, 4, "1 of 2 checks failed")),
    ]);
    insta::assert_snapshot!(shown(&checks, 4, 40), @r"
    verification           4 ms  findings: 1 of 2 checks failed
      CHECK      RESULT  EVIDENCE                                               TOOK
      processes  ok      waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD         2 ms
      ports      failed  port 8082 is held by python3 -m http.server 8082 (pid  2 ms
                         991, user kim)
    ");
    let clients = view([
        (0, EventKind::PhaseStarted { phase: Phase::Clients, limit_ms: 30_000 }),
        (1, EventKind::Clients { connected: 1, left: 2, forced: 0 }),
    ]);
    insta::assert_snapshot!(shown(&clients, 1_500, 40), @r"
    clients              1.50 s of 30 s
      CONNECTED  DISCONNECTED  FORCED
              1             2       0
    ");
}

#[test]
fn without_a_terminal_each_event_is_one_line() {
    let (graceful, terminate) = events();
    let lines: Vec<_> = graceful
        .into_iter()
        .chain(terminate)
        .map(event)
        .filter_map(|event| event_line::line(&event, &clock()))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    14:00:00.500       +0 ms  shutdown started (manual): 3 workers
    14:00:00.500       +0 ms  workers-graceful: started, limit 10 s
    14:00:00.500       +1 ms  alpha (pid 4711): asked to exit by POST
    14:00:00.500       +1 ms  docs (pid 4712): asked to exit by POST
    14:00:00.500       +1 ms  web-frontend (pid 4713): asked to exit by POST
    14:00:00.500       +3 ms  alpha (pid 4711): answer: 202
    14:00:00.500      +12 ms  alpha (pid 4711): exited after 12 ms (exit 0)
    14:00:00.500     +2.00 s  workers-graceful: still waiting for docs (pid 4712)
    14:00:00.500     +5.00 s  docs (pid 4712): answer: no answer within 5 s
    14:00:00.500     +5.00 s  docs (pid 4712): SIGTERM sent: no answer within 5 s
    14:00:00.500     +5.00 s  docs (pid 4712): ended by SIGTERM after 5.00 s (exit 143)
    14:00:00.500     +10.0 s  workers-graceful: finished after 10.0 s: timed out: 2 of 3 workers left
    14:00:00.500     +10.0 s  workers-terminate: started, limit 20 s
    14:00:00.500     +10.0 s  web-frontend (pid 4713): SIGTERM sent: still there after 10 s
    14:00:00.500     +30.0 s  web-frontend (pid 4713): SIGKILL sent: still there after 20 s
    14:00:00.500     +30.0 s  web-frontend (pid 4713): ended by SIGKILL after 30.0 s (SIGKILL)
    14:00:00.500     +30.0 s  workers-terminate: finished after 20.0 s: findings: 1 of 1 worker left
    ");
}

#[test]
fn the_last_event_carries_the_report() {
    let finished = EventKind::Finished { report: Box::new(report()) };
    assert_eq!(view([(30_061, finished)]).report, Some(report()));
}
