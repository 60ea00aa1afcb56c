//! Every step is an event; waits name what they wait for.

use mcpd_common::event::{EventKind, WorkerStep};
use mcpd_common::phase::Phase;

use super::shutdown_run::{Ended, ShutdownRun, published, shut_down, shut_down_one};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;

fn stubborn() -> Behaviour {
    Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)
}

/// The notices of a wait: after how many seconds, and what was awaited.
fn notices(ended: &Ended, phase: Phase) -> Vec<(u64, Vec<String>)> {
    let notice = |kind: &EventKind| match kind {
        EventKind::Waiting { phase: of, remaining } if *of == phase => Some(remaining.clone()),
        _ => None,
    };
    let story = ended.story.iter();
    story.filter_map(|event| Some((event.elapsed_ms / 1000, notice(&event.kind)?))).collect()
}

/// R-SHUT-3: every 2 s and at the deadline.
#[tokio::test(start_paused = true)]
async fn who_is_awaited_is_named_every_two_seconds() {
    let ended =
        shut_down([("docs", stubborn()), ("web", Behaviour::exits_on_request().exiting_after(ms(5_000)))])
            .await;
    let [docs, web] = ["docs (pid 5000001)", "web (pid 5000002)"].map(str::to_owned);
    let both = vec![docs.clone(), web];
    let graceful =
        [(2, both.clone()), (4, both), (6, vec![docs.clone()]), (8, vec![docs.clone()]), (10, vec![docs])];
    assert_eq!(notices(&ended, Phase::WorkersGraceful), graceful);
    let seconds: Vec<_> =
        notices(&ended, Phase::WorkersTerminate).into_iter().map(|notice| notice.0).collect();
    assert_eq!(seconds[..9], [12, 14, 16, 18, 20, 22, 24, 26, 28]);
}

/// R-SHUT-4.
#[tokio::test(start_paused = true)]
async fn each_step_of_a_worker_is_published_in_order() {
    let ended = shut_down_one(stubborn()).await;
    let steps: Vec<_> = ended.steps("docs").into_iter().map(short).collect();
    assert_eq!(steps, ["asked", "answered 202", "SIGTERM", "SIGKILL", "exited", "left"]);
    let ended =
        shut_down_one(Behaviour::without_route().with_descendant(SignalReaction::IGNORES_SIGTERM)).await;
    let steps: Vec<_> = ended.steps("docs").into_iter().map(short).collect();
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

/// Section 6: a second `mcpctl shutdown` sees all events from the beginning. R-RPC-1: one that
/// reads nothing delays nothing.
#[tokio::test(start_paused = true)]
async fn a_late_subscriber_sees_everything() {
    let ending = ShutdownRun::of(Harness::running([("docs", Behaviour::ignores_request())]).await);
    let progress = ending.progress.clone();
    let idle = ending.progress.subscribe();
    let (sender, early) = tokio::sync::oneshot::channel();
    let midway = progress.clone();
    let ended = ending
        .after(ms(3_000), move || {
            tokio::spawn(async move { drop(sender.send(published(&midway).await)) });
        })
        .run()
        .await;
    let early = early.await.expect("it was there");
    assert!(early.len() > 5 && early[..] == ended.story[..early.len()]);
    assert_eq!(published(&progress).await, ended.story);
    assert_eq!(ended.seconds(), 10.0);
    drop(idle);
}

/// R-SHUT-7.
#[tokio::test(start_paused = true)]
async fn status_has_the_phase() {
    let ending = ShutdownRun::of(Harness::running([("docs", stubborn())]).await);
    let progress = ending.progress.clone();
    assert_eq!(progress.status(), None);
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let mut ending = ending;
    for wait in [3_000, 15_000] {
        let progress = progress.clone();
        let sender = sender.clone();
        ending = ending.after(ms(wait), move || sender.send(progress.status()).expect("the receiver exists"));
    }
    ending.run().await;
    let graceful = seen.try_recv().expect("seen").expect("it runs");
    assert_eq!((graceful.reason.as_str(), graceful.phase), ("manual", Phase::WorkersGraceful));
    assert!(!graceful.workers_gone && !graceful.clients_gone);
    let terminate = seen.try_recv().expect("seen").expect("it runs");
    assert_eq!((terminate.phase, terminate.clients_gone), (Phase::WorkersTerminate, true));
    assert!(progress.status().expect("it ran").workers_gone);
}
