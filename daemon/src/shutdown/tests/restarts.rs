//! R-SUP-4: while shutting down nothing is ever started. `Ended` checks it each time.

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
async fn a_worker_that_waits_for_its_restart_waits_no_more() {
    let harness = Harness::running([
        ("docs", Behaviour::exits_after(ms(10), CRASH)),
        ("web", Behaviour::ignores_request()),
    ])
    .await;
    assert_eq!(harness.state("docs").await, WorkerState::BackingOff);
    let ended = ShutdownRun::of(harness).run().await;
    assert_eq!((ended.code(), ended.worker("docs").departure), (2, Departure::NotRunning));
    assert_eq!(ended.worker("docs").pid, None);
}

/// All moments from half a second before the request to half a second after it.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_around_the_request_stays_dead() {
    for moment in (0..1000).step_by(20) {
        let behaviours =
            [("docs", Behaviour::ignores_request()), ("web", Behaviour::exits_after(ms(50 + moment), CRASH))];
        let harness = Harness::running(behaviours).await;
        harness.pass(ms(500)).await;
        let ended = ShutdownRun::of(harness).run().await;
        assert_eq!((ended.code(), ended.seconds()), (2, 10.0), "at {moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn actions_come_too_late() {
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
    let mut ending = ShutdownRun::of(harness);
    for (wait, action) in worker_actions {
        ending = ending.after(wait, action);
    }
    let ended = ending.run().await;
    assert_eq!((ended.code(), ended.seconds()), (2, 10.0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_way_becomes_a_stop() {
    let harness = Harness::running([("docs", Behaviour::exits_on_request())]).await;
    harness.action("docs", WorkerAction::Restart).await.expect("known");
    let ended = ShutdownRun::of(harness).run().await;
    assert_eq!((ended.code(), ended.system.count(Effect::Spawned)), (0, 1));
}

/// It may be there before anybody knows its pid.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_just_being_started_is_stopped_too() {
    let harness = Harness::of([("docs", Behaviour::exits_on_request())]);
    harness.action("docs", WorkerAction::Start).await.expect("known");
    let ended = ShutdownRun::of(harness).run().await;
    assert_eq!((ended.code(), ended.system.living()), (0, 0));
    assert_eq!(ended.system.effects("docs"), [Effect::Spawned, Effect::Terminated, Effect::Gone]);
    assert!(ended.worker("docs").pid.is_some());
}

/// R-SUP-3, R-EXIT-1: what was given up before the shutdown is not forgotten in it.
#[tokio::test(start_paused = true)]
async fn remains_of_an_earlier_stop_are_reported() {
    let harness =
        Harness::running([("docs", Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE))])
            .await;
    harness.action("docs", WorkerAction::Stop).await.expect("known");
    harness.until("docs", WorkerState::Failed).await;
    let ended = ShutdownRun::of(harness).run().await;
    assert_eq!(ended.faults(), [FindingKind::ProcessLeft, FindingKind::WorkerKilled]);
    assert_eq!(ended.worker("docs").departure, Departure::Remains);
}
