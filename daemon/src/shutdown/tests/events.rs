//! Every step is an event; an event during a wait names the workers it waits for.

use mcpd_common::event::{EventKind, WorkerStep};
use mcpd_common::phase::Phase;

use super::shutdown_run::{RunResult, ShutdownRun, published, shut_down, shut_down_one};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;

fn stubborn() -> Behaviour {
    Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)
}

/// The `Waiting` events of a phase: seconds since the start, and the names of the remaining workers.
fn waits(result: &RunResult, phase: Phase) -> Vec<(u64, Vec<String>)> {
    let remaining = |kind: &EventKind| match kind {
        EventKind::Waiting { phase: of, remaining } if *of == phase => Some(remaining.clone()),
        _ => None,
    };
    let events = result.events.iter();
    events.filter_map(|event| Some((event.elapsed_ms / 1000, remaining(&event.kind)?))).collect()
}

/// R-SHUT-3: every 2 s and at the deadline.
#[tokio::test(start_paused = true)]
async fn remaining_workers_are_named_every_two_seconds() {
    let result =
        shut_down([("docs", stubborn()), ("web", Behaviour::exits_on_request().exiting_after(ms(5_000)))])
            .await;
    let [docs, web] = ["docs (pid 5000001)", "web (pid 5000002)"].map(str::to_owned);
    let both = vec![docs.clone(), web];
    let graceful =
        [(2, both.clone()), (4, both), (6, vec![docs.clone()]), (8, vec![docs.clone()]), (10, vec![docs])];
    assert_eq!(waits(&result, Phase::WorkersGraceful), graceful);
    let seconds: Vec<_> = waits(&result, Phase::WorkersTerminate).into_iter().map(|wait| wait.0).collect();
    assert_eq!(seconds[..9], [12, 14, 16, 18, 20, 22, 24, 26, 28]);
}

/// R-SHUT-4.
#[tokio::test(start_paused = true)]
async fn each_step_of_a_worker_is_published_in_order() {
    let result = shut_down_one(stubborn()).await;
    let steps: Vec<_> = result.steps("docs").into_iter().map(short).collect();
    assert_eq!(steps, ["asked", "answered 202", "SIGTERM", "SIGKILL", "exited", "left"]);
    let result =
        shut_down_one(Behaviour::without_route().with_descendant(SignalReaction::IGNORES_SIGTERM)).await;
    let steps: Vec<_> = result.steps("docs").into_iter().map(short).collect();
    assert_eq!(steps, ["SIGTERM", "exited", "SIGTERM", "SIGKILL", "left"]);
}

fn short(step: &WorkerStep) -> String {
    match step {
        WorkerStep::Asked { .. } => "asked".to_owned(),
        WorkerStep::Answered { answer } => format!("answered {answer}"),
        WorkerStep::Signalled { signal, .. } => signal.clone(),
        WorkerStep::LeaderExited { .. } => "exited".to_owned(),
        WorkerStep::Left { .. } => "left".to_owned(),
        WorkerStep::Remains { .. } => "remains".to_owned(),
    }
}

/// Section 6: a second `mcpctl shutdown` receives all events from the start. R-RPC-1: a subscriber that reads nothing
/// does not delay the shutdown.
#[tokio::test(start_paused = true)]
async fn a_late_subscriber_receives_all_events() {
    let run = ShutdownRun::of(Harness::running([("docs", Behaviour::ignores_request())]).await);
    let progress = run.progress.clone();
    let idle = run.progress.subscribe();
    let (sender, early) = tokio::sync::oneshot::channel();
    let midway = progress.clone();
    let result = run
        .after(ms(3_000), move || {
            tokio::spawn(async move { drop(sender.send(published(&midway).await)) });
        })
        .run()
        .await;
    let early = early.await.expect("the task has sent it");
    assert!(early.len() > 5 && early[..] == result.events[..early.len()]);
    assert_eq!(published(&progress).await, result.events);
    assert_eq!(result.seconds(), 10.0);
    drop(idle);
}

/// R-SHUT-7.
#[tokio::test(start_paused = true)]
async fn the_status_names_the_phase() {
    let mut run = ShutdownRun::of(Harness::running([("docs", stubborn())]).await);
    let progress = run.progress.clone();
    assert_eq!(progress.status(), None);
    let (sender, mut statuses) = tokio::sync::mpsc::unbounded_channel();
    for wait in [3_000, 15_000] {
        let progress = progress.clone();
        let sender = sender.clone();
        run = run.after(ms(wait), move || sender.send(progress.status()).expect("the receiver exists"));
    }
    run.run().await;
    let graceful = statuses.try_recv().expect("a status").expect("a shutdown is running");
    assert_eq!((graceful.reason.as_str(), graceful.phase), ("manual", Phase::WorkersGraceful));
    assert!(!graceful.workers_gone && !graceful.clients_gone);
    let terminate = statuses.try_recv().expect("a status").expect("a shutdown is running");
    assert_eq!((terminate.phase, terminate.clients_gone), (Phase::WorkersTerminate, true));
    assert!(progress.status().expect("it ran").workers_gone);
}
