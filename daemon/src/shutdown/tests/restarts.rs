//! R-SUP-4: nothing is started during a shutdown. `ShutdownRun::run` checks it each time.

use mcpd_common::outcome::{Departure, ExitStatus, FindingKind};
use mcpd_common::status::WorkerState;

use super::shutdown_run::ShutdownRun;
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::{Harness, name};
use crate::supervisor::fake::system::Effect;
use crate::supervisor::handle::{Order, WorkerAction};

const CRASH: ExitStatus = ExitStatus::Code(1);

fn action(harness: &Harness, worker: &str, action: WorkerAction) -> impl FnOnce() + Send + 'static {
    let workers = harness.workers.clone();
    let worker = name(worker);
    move || {
        let (reply, _) = tokio::sync::oneshot::channel();
        workers.send(Order::Worker(worker, action, reply));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_in_backoff_is_not_restarted() {
    let harness = Harness::running([
        ("docs", Behaviour::exits_after(ms(10), CRASH)),
        ("web", Behaviour::ignores_request()),
    ])
    .await;
    assert_eq!(harness.state("docs").await, WorkerState::BackingOff);
    let result = ShutdownRun::of(harness).run().await;
    assert_eq!((result.code(), result.worker("docs").departure), (2, Departure::NotRunning));
    assert_eq!(result.worker("docs").pid, None);
}

/// From half a second before the request to half a second after it.
#[tokio::test(start_paused = true)]
async fn a_worker_that_crashes_around_the_request_is_not_restarted() {
    for moment in (0..1000).step_by(20) {
        let behaviours =
            [("docs", Behaviour::ignores_request()), ("web", Behaviour::exits_after(ms(50 + moment), CRASH))];
        let harness = Harness::running(behaviours).await;
        harness.pass(ms(500)).await;
        let result = ShutdownRun::of(harness).run().await;
        assert_eq!((result.code(), result.seconds()), (2, 10.0), "at {moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn start_and_restart_actions_have_no_effect() {
    let behaviours = [
        ("docs", Behaviour::exits_on_request()),
        ("rest", Behaviour::exits_on_request()),
        ("web", Behaviour::ignores_request()),
    ];
    let harness = Harness::running(behaviours).await;
    harness.action("rest", WorkerAction::Stop).await.expect("known");
    harness.until("rest", WorkerState::Stopped).await;
    let mut worker_actions = vec![];
    for worker in ["docs", "rest", "web"] {
        for kind in [WorkerAction::Start, WorkerAction::Restart] {
            worker_actions.push((ms(50), action(&harness, worker, kind)));
            worker_actions.push((ms(5_000), action(&harness, worker, kind)));
        }
    }
    let mut run = ShutdownRun::of(harness);
    for (wait, action) in worker_actions {
        run = run.after(wait, action);
    }
    let result = run.run().await;
    assert_eq!((result.code(), result.seconds()), (2, 10.0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_progress_becomes_a_stop() {
    let harness = Harness::running([("docs", Behaviour::exits_on_request())]).await;
    harness.action("docs", WorkerAction::Restart).await.expect("known");
    let result = ShutdownRun::of(harness).run().await;
    assert_eq!((result.code(), result.system.count(Effect::Spawned)), (0, 1));
}

/// The process may run before the supervisor knows its pid.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_being_started_is_stopped() {
    let harness = Harness::of([("docs", Behaviour::exits_on_request())]);
    harness.action("docs", WorkerAction::Start).await.expect("known");
    let result = ShutdownRun::of(harness).run().await;
    assert_eq!((result.code(), result.system.living()), (0, 0));
    assert_eq!(result.system.effects("docs"), [Effect::Spawned, Effect::Terminated, Effect::Gone]);
    assert!(result.worker("docs").pid.is_some());
}

/// R-SUP-3, R-EXIT-1.
#[tokio::test(start_paused = true)]
async fn processes_left_by_an_earlier_stop_are_reported() {
    let harness =
        Harness::running([("docs", Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE))])
            .await;
    harness.action("docs", WorkerAction::Stop).await.expect("known");
    harness.until("docs", WorkerState::Failed).await;
    let result = ShutdownRun::of(harness).run().await;
    assert_eq!(result.faults(), [FindingKind::ProcessLeft, FindingKind::WorkerKilled]);
    assert_eq!(result.worker("docs").departure, Departure::Remains);
}
