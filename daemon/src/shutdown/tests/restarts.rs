//! R-SUP-4: while shutting down nothing is ever started. `Ended` checks it each time.

use mcpd_common::outcome::{Departure, ExitStatus, FindingKind};
use mcpd_common::status::WorkerState;

use super::shutdown_run::ShutdownRun;
use crate::supervisor::fake::scene::{Scene, name};
use crate::supervisor::fake::script::{Nature, Script, ms};
use crate::supervisor::fake::world::Effect;
use crate::supervisor::handle::{Order, WorkerAction};

const CRASH: ExitStatus = ExitStatus::Code(1);

fn action(scene: &Scene, worker: &str, action: WorkerAction) -> impl FnOnce() + Send + 'static {
    let workers = scene.workers.clone();
    let worker = name(worker);
    move || {
        let (reply, _) = tokio::sync::oneshot::channel();
        workers.send(Order::Worker(worker, action, reply));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_waits_for_its_restart_waits_no_more() {
    let scene = Scene::running([("docs", Script::ending(ms(10), CRASH)), ("web", Script::deaf())]).await;
    assert_eq!(scene.state("docs").await, WorkerState::BackingOff);
    let ended = ShutdownRun::of(scene).run().await;
    assert_eq!((ended.code(), ended.worker("docs").departure), (2, Departure::NotRunning));
    assert_eq!(ended.worker("docs").pid, None);
}

/// All moments from half a second before the request to half a second after it.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_around_the_request_stays_dead() {
    for moment in (0..1000).step_by(20) {
        let scripts = [("docs", Script::deaf()), ("web", Script::ending(ms(50 + moment), CRASH))];
        let scene = Scene::running(scripts).await;
        scene.pass(ms(500)).await;
        let ended = ShutdownRun::of(scene).run().await;
        assert_eq!((ended.code(), ended.seconds()), (2, 10.0), "at {moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn actions_come_too_late() {
    let scripts = [("docs", Script::polite()), ("rest", Script::polite()), ("web", Script::deaf())];
    let scene = Scene::running(scripts).await;
    scene.action("rest", WorkerAction::Stop).await.expect("known");
    scene.until("rest", WorkerState::Stopped).await;
    let mut worker_actions = vec![];
    for worker in ["docs", "rest", "web"] {
        for kind in [WorkerAction::Start, WorkerAction::Restart] {
            worker_actions.push((ms(50), action(&scene, worker, kind)));
            worker_actions.push((ms(5_000), action(&scene, worker, kind)));
        }
    }
    let mut ending = ShutdownRun::of(scene);
    for (wait, action) in worker_actions {
        ending = ending.after(wait, action);
    }
    let ended = ending.run().await;
    assert_eq!((ended.code(), ended.seconds()), (2, 10.0));
}

#[tokio::test(start_paused = true)]
async fn a_restart_under_way_becomes_a_stop() {
    let scene = Scene::running([("docs", Script::polite())]).await;
    scene.action("docs", WorkerAction::Restart).await.expect("known");
    let ended = ShutdownRun::of(scene).run().await;
    assert_eq!((ended.code(), ended.world.count(Effect::Spawned)), (0, 1));
}

/// It may be there before anybody knows its pid.
#[tokio::test(start_paused = true)]
async fn a_worker_that_is_just_being_started_is_stopped_too() {
    let scene = Scene::of([("docs", Script::polite())]);
    scene.action("docs", WorkerAction::Start).await.expect("known");
    let ended = ShutdownRun::of(scene).run().await;
    assert_eq!((ended.code(), ended.world.living()), (0, 0));
    assert_eq!(ended.world.effects("docs"), [Effect::Spawned, Effect::Termed, Effect::Gone]);
    assert!(ended.worker("docs").pid.is_some());
}

/// R-SUP-3, R-EXIT-1: what was given up before the shutdown is not forgotten in it.
#[tokio::test(start_paused = true)]
async fn remains_of_an_earlier_stop_are_reported() {
    let scene = Scene::running([("docs", Script::deaf().with_leader(Nature::UNKILLABLE))]).await;
    scene.action("docs", WorkerAction::Stop).await.expect("known");
    scene.until("docs", WorkerState::Failed).await;
    let ended = ShutdownRun::of(scene).run().await;
    assert_eq!(ended.faults(), [FindingKind::ProcessLeft, FindingKind::WorkerKilled]);
    assert_eq!(ended.worker("docs").departure, Departure::Remains);
}
