//! Stopping and restarting one worker, without a shutdown.

use mcpd_common::outcome::{Departure, ExitStatus};
use mcpd_common::status::WorkerState::{Failed, Ready, Stopped, Stopping};

use crate::deadline;
use crate::progress::Progress;
use crate::supervisor::fake::scene::Scene;
use crate::supervisor::fake::script::{Nature, Reply, Script, ms};
use crate::supervisor::fake::world::Effect;
use crate::supervisor::handle::{Order, WorkerAction};

/// Starts one worker, stops it, and waits until it is stopped. Times count from the request.
async fn stopped(script: Script) -> Scene {
    let scene = Scene::running([("docs", script)]).await;
    assert_eq!(scene.action("docs", WorkerAction::Stop).await, Ok(Stopping));
    scene.until("docs", Stopped).await;
    scene
}

/// Between the start of the worker and this deed: 50 ms until the request, then...
fn seconds_until(scene: &Scene, deed: Effect) -> f64 {
    let at = scene.world.when("docs", deed).expect("it was done");
    ((at - ms(50)).as_secs_f64() * 10.0).round() / 10.0
}

#[tokio::test(start_paused = true)]
async fn a_polite_worker_exits_on_request() {
    let scene = stopped(Script::polite()).await;
    assert_eq!(scene.world.effects("docs"), [Effect::Spawned, Effect::Posted, Effect::Gone]);
    scene.pass(ms(60_000)).await;
    assert_eq!(scene.state("docs").await, Stopped, "and stays away");
}

#[tokio::test(start_paused = true)]
async fn a_deaf_worker_gets_sigterm_after_ten_seconds_and_sigkill_after_twenty_more() {
    let scene = stopped(Script::deaf().with_leader(Nature::STUBBORN)).await;
    let effects = [Effect::Spawned, Effect::Posted, Effect::Termed, Effect::Killed, Effect::Gone];
    assert_eq!(scene.world.effects("docs"), effects);
    assert_eq!([Effect::Termed, Effect::Killed].map(|deed| seconds_until(&scene, deed)), [10.0, 30.0]);
}

#[tokio::test(start_paused = true)]
async fn no_answer_within_five_seconds_is_as_good_as_no() {
    let scene = stopped(Script::replying(Reply::Silence)).await;
    assert_eq!(scene.world.effects("docs"), [Effect::Spawned, Effect::Posted, Effect::Termed, Effect::Gone]);
    assert_eq!(seconds_until(&scene, Effect::Termed), 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_a_route_or_never_ready_is_not_posted_to() {
    for script in [Script::without_route(), Script::never_ready()] {
        let scene = stopped(script).await;
        assert_eq!(scene.world.effects("docs"), [Effect::Spawned, Effect::Termed, Effect::Gone]);
        assert_eq!(seconds_until(&scene, Effect::Gone), 0.0);
    }
}

/// R-SUP-3.
#[tokio::test(start_paused = true)]
async fn a_restart_starts_the_new_one_when_all_of_the_old_one_is_gone() {
    let script = Script::polite().with_descendant(Nature::STUBBORN);
    let scene = Scene::running([("docs", script)]).await;
    let old = scene.status("docs").await.pid;
    scene.action("docs", WorkerAction::Restart).await.expect("known");
    scene.until("docs", Ready).await;
    let effects =
        [Effect::Spawned, Effect::Posted, Effect::Termed, Effect::Killed, Effect::Gone, Effect::Spawned];
    assert_eq!(scene.world.effects("docs"), effects);
    assert_ne!(scene.status("docs").await.pid, old);
}

#[tokio::test(start_paused = true)]
async fn the_last_action_counts_while_it_stops() {
    let scene = Scene::running([("docs", Script::polite().exiting_after(ms(2_000)))]).await;
    for action in [WorkerAction::Restart, WorkerAction::Stop, WorkerAction::Start] {
        assert_eq!(scene.action("docs", action).await, Ok(Stopping));
    }
    scene.until("docs", Ready).await;
    assert_eq!(scene.world.effects("docs"), [Effect::Spawned, Effect::Posted, Effect::Gone, Effect::Spawned]);
}

/// R-SUP-3: it is not started beside its own remains, however often that is wished.
#[tokio::test(start_paused = true)]
async fn what_can_t_be_ended_is_never_started_twice() {
    let scene = Scene::running([("docs", Script::deaf().with_leader(Nature::UNKILLABLE))]).await;
    scene.action("docs", WorkerAction::Restart).await.expect("known");
    let took = scene.until("docs", Failed).await;
    assert!(took >= ms(34_990) && took < ms(35_100), "10 s, 20 s, 5 s: {took:?}");
    scene.action("docs", WorkerAction::Restart).await.expect("known");
    scene.pass(ms(10)).await;
    let reason = scene.status("docs").await.reason.expect("a reason");
    assert_eq!(reason, "its last process is not gone");
    assert_eq!(scene.world.count(Effect::Spawned), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_command_runs_once_with_the_request() {
    for script in [Script::polite(), Script::without_route(), Script::replying(Reply::Status(404))] {
        let scene = Scene::running([("docs", script.with_stop_command("docker-stop"))]).await;
        scene.world.add_command("docker-stop", Script::ending(ms(500), ExitStatus::Code(0)));
        scene.action("docs", WorkerAction::Stop).await.expect("known");
        scene.pass(ms(1_000)).await;
        assert_eq!(scene.world.helpers().len(), 1, "{:?}", scene.world.effects("docs"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_command_runs_again_for_the_next_process() {
    let scene = Scene::running([("docs", Script::polite().with_stop_command("docker-stop"))]).await;
    scene.world.add_command("docker-stop", Script::ending(ms(500), ExitStatus::Code(0)));
    for restarts in 1..3 {
        scene.action("docs", WorkerAction::Restart).await.expect("known");
        scene.until("docs", Ready).await;
        assert_eq!(scene.world.helpers().len(), restarts);
    }
}

/// R-EXIT-1: outcomes that are taken a moment too early do not forget what it took.
#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_running_worker_says_so() {
    let scene = Scene::running([("docs", Script::deaf().with_leader(Nature::UNKILLABLE))]).await;
    let order = Order::StopAll { grace_until: deadline::now() + ms(10_000), progress: Progress::new() };
    scene.workers.send(order);
    scene.workers.send(Order::KillAll);
    let outcomes = scene.workers.ask(Order::Outcomes).await.expect("a supervisor");
    let stop = outcomes[0].stop.as_ref().expect("an outcome");
    assert_eq!((stop.departure, outcomes[0].pid.is_some()), (Departure::Remains, true));
}
