//! Processes of which each serves one session (R-STDIO-2).

use mcpd_common::config::{Config, SessionsPolicy};
use mcpd_common::outcome::Departure;
use mcpd_common::status::WorkerState::{Ready, Stopped};

use crate::deadline;
use crate::progress::Progress;
use crate::proxy::handle::{ProcessNumber, ProcessRequest};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::{Harness, name};
use crate::supervisor::handle::{Order, WorkerAction, WorkerOutcome};

const FIRST: ProcessNumber = 1 << 31;

/// A worker whose sessions have processes that behave like this.
async fn own(behaviour: Behaviour) -> Harness {
    let own = |config: &mut Config| {
        for worker in config.workers.values_mut() {
            (worker.sessions, worker.max_processes) = (SessionsPolicy::Own, 2);
        }
    };
    let harness = Harness::configured([("docs", Behaviour::exits_on_request())], own);
    // What has no behaviour by its slot has that of its program.
    harness.system.add_command("mcpd", behaviour);
    harness.start_all().await;
    assert_eq!(harness.state("docs").await, Ready);
    harness
}

async fn request(harness: &Harness, request: ProcessRequest) {
    harness.process_requests.send(request).expect("a supervisor");
    harness.pass(ms(50)).await;
}

async fn start(harness: &Harness, number: ProcessNumber) {
    request(harness, ProcessRequest::Start { worker: name("docs"), number }).await;
}

async fn sessions(harness: &Harness) -> u32 {
    harness.status("docs").await.session_processes
}

async fn shut_down(harness: &Harness) -> Vec<WorkerOutcome> {
    let (grace_until, progress) = (deadline::now() + ms(1000), Progress::new());
    harness.workers.send(Order::StopAll { grace_until, progress });
    harness.pass(ms(1000)).await;
    harness.workers.send(Order::Escalate);
    harness.workers.all_stopped().await;
    harness.workers.ask(Order::Outcomes).await.expect("a supervisor")
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_stops_and_reports_the_processes_of_sessions() {
    let stubborn = Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM);
    let harness = own(stubborn).await;
    start(&harness, FIRST).await;
    start(&harness, FIRST + 1).await;
    assert_eq!(sessions(&harness).await, 2);
    start(&harness, FIRST + 2).await;
    assert_eq!(sessions(&harness).await, 2, "no more than there are slots");
    let outcomes = shut_down(&harness).await;
    let departures: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome.is_of_session, outcome.stop.as_ref().map(|stop| stop.departure)))
        .collect();
    let killed = (true, Some(Departure::Killed));
    assert_eq!(departures, [(false, Some(Departure::Left)), killed, killed]);
}

/// R-SUP-4.
#[tokio::test(start_paused = true)]
async fn no_process_of_a_session_is_started_in_a_shutdown() {
    let harness = own(Behaviour::exits_on_request()).await;
    harness.workers.send(Order::DisableRestarts);
    harness.pass(ms(1)).await;
    start(&harness, FIRST).await;
    assert_eq!(sessions(&harness).await, 0);
    assert_eq!(shut_down(&harness).await.len(), 1);
    start(&harness, FIRST + 1).await;
    assert_eq!(sessions(&harness).await, 0);
}

/// The slot is free again, and the process is never started again by itself.
#[tokio::test(start_paused = true)]
async fn the_process_of_a_session_ends_on_request_or_with_its_worker() {
    let harness = own(Behaviour::exits_on_request()).await;
    for number in FIRST..FIRST + 5 {
        start(&harness, number).await;
        assert_eq!(sessions(&harness).await, 1);
        request(&harness, ProcessRequest::End { worker: name("docs"), number }).await;
        harness.pass(ms(60_000)).await;
        assert_eq!(sessions(&harness).await, 0);
    }
    start(&harness, FIRST + 5).await;
    harness.action("docs", WorkerAction::Stop).await.expect("a known worker");
    harness.until("docs", Stopped).await;
    assert_eq!(sessions(&harness).await, 0, "it has not stopped before");
    start(&harness, FIRST + 6).await;
    assert_eq!(sessions(&harness).await, 0, "its worker does not run");
}
