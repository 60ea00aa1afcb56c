//! Stopping and restarting one worker, without a shutdown.

use mcpd_common::outcome::{Departure, ExitStatus};
use mcpd_common::status::WorkerState::{Failed, Ready, Stopped, Stopping};

use crate::deadline;
use crate::progress::Progress;
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;
use crate::supervisor::fake::system::Effect;
use crate::supervisor::handle::{Order, WorkerAction};

/// Starts one worker, stops it, and waits until it is stopped.
async fn stopped(behaviour: Behaviour) -> Harness {
    let harness = Harness::running([("docs", behaviour)]).await;
    assert_eq!(harness.action("docs", WorkerAction::Stop).await, Ok(Stopping));
    harness.until("docs", Stopped).await;
    harness
}

/// Seconds from the stop request, which comes 50 ms after the start of the worker, to this effect.
fn seconds_until(harness: &Harness, effect: Effect) -> f64 {
    let at = harness.system.when("docs", effect).expect("the effect is recorded");
    ((at - ms(50)).as_secs_f64() * 10.0).round() / 10.0
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_exits_on_request_gets_no_signal() {
    let harness = stopped(Behaviour::exits_on_request()).await;
    assert_eq!(harness.system.effects("docs"), [Effect::Spawned, Effect::Posted, Effect::Gone]);
    harness.pass(ms(60_000)).await;
    assert_eq!(harness.state("docs").await, Stopped, "not restarted");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_ignores_everything_gets_sigterm_after_10_s_and_sigkill_after_20_s_more() {
    let harness = stopped(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    let effects = [Effect::Spawned, Effect::Posted, Effect::Terminated, Effect::Killed, Effect::Gone];
    assert_eq!(harness.system.effects("docs"), effects);
    assert_eq!(
        [Effect::Terminated, Effect::Killed].map(|effect| seconds_until(&harness, effect)),
        [10.0, 30.0]
    );
}

#[tokio::test(start_paused = true)]
async fn no_response_within_five_seconds_counts_as_a_failed_request() {
    let harness = stopped(Behaviour::replies(Reply::Silence)).await;
    assert_eq!(
        harness.system.effects("docs"),
        [Effect::Spawned, Effect::Posted, Effect::Terminated, Effect::Gone]
    );
    assert_eq!(seconds_until(&harness, Effect::Terminated), 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_a_route_or_never_ready_is_not_posted_to() {
    for behaviour in [Behaviour::without_route(), Behaviour::never_ready()] {
        let harness = stopped(behaviour).await;
        assert_eq!(harness.system.effects("docs"), [Effect::Spawned, Effect::Terminated, Effect::Gone]);
        assert_eq!(seconds_until(&harness, Effect::Gone), 0.0);
    }
}

/// R-SUP-3.
#[tokio::test(start_paused = true)]
async fn a_restart_waits_until_the_old_family_is_gone() {
    let behaviour = Behaviour::exits_on_request().with_descendant(SignalReaction::IGNORES_SIGTERM);
    let harness = Harness::running([("docs", behaviour)]).await;
    let old = harness.status("docs").await.pid;
    harness.action("docs", WorkerAction::Restart).await.expect("known");
    harness.until("docs", Ready).await;
    let effects =
        [Effect::Spawned, Effect::Posted, Effect::Terminated, Effect::Killed, Effect::Gone, Effect::Spawned];
    assert_eq!(harness.system.effects("docs"), effects);
    assert_ne!(harness.status("docs").await.pid, old);
}

#[tokio::test(start_paused = true)]
async fn while_a_worker_stops_the_last_action_counts() {
    let harness = Harness::running([("docs", Behaviour::exits_on_request().exiting_after(ms(2_000)))]).await;
    for action in [WorkerAction::Restart, WorkerAction::Stop, WorkerAction::Start] {
        assert_eq!(harness.action("docs", action).await, Ok(Stopping));
    }
    harness.until("docs", Ready).await;
    assert_eq!(
        harness.system.effects("docs"),
        [Effect::Spawned, Effect::Posted, Effect::Gone, Effect::Spawned]
    );
}

/// R-SUP-3: not started beside processes of its last run, even on request.
#[tokio::test(start_paused = true)]
async fn a_worker_that_survives_sigkill_is_not_started_again() {
    let harness =
        Harness::running([("docs", Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE))])
            .await;
    harness.action("docs", WorkerAction::Restart).await.expect("known");
    let took = harness.until("docs", Failed).await;
    assert!(took >= ms(34_990) && took < ms(35_100), "10 s, 20 s, 5 s: {took:?}");
    harness.action("docs", WorkerAction::Restart).await.expect("known");
    harness.pass(ms(10)).await;
    let reason = harness.status("docs").await.reason.expect("a reason");
    assert_eq!(reason, "its last process is not gone");
    assert_eq!(harness.system.count(Effect::Spawned), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stop_command_runs_once_with_the_request() {
    for behaviour in
        [Behaviour::exits_on_request(), Behaviour::without_route(), Behaviour::replies(Reply::Status(404))]
    {
        let harness = Harness::running([("docs", behaviour.with_stop_command("docker-stop"))]).await;
        harness.system.add_command("docker-stop", Behaviour::exits_after(ms(500), ExitStatus::Code(0)));
        harness.action("docs", WorkerAction::Stop).await.expect("known");
        harness.pass(ms(1_000)).await;
        assert_eq!(harness.system.helpers().len(), 1, "{:?}", harness.system.effects("docs"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_command_runs_again_for_the_next_process() {
    let harness =
        Harness::running([("docs", Behaviour::exits_on_request().with_stop_command("docker-stop"))]).await;
    harness.system.add_command("docker-stop", Behaviour::exits_after(ms(500), ExitStatus::Code(0)));
    for restarts in 1..3 {
        harness.action("docs", WorkerAction::Restart).await.expect("known");
        harness.until("docs", Ready).await;
        assert_eq!(harness.system.helpers().len(), restarts);
    }
}

/// R-EXIT-1: an outcome that is read before the worker has exited reports the process as left.
#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_running_worker_reports_a_left_process() {
    let harness =
        Harness::running([("docs", Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE))])
            .await;
    let order = Order::StopAll { grace_until: deadline::now() + ms(10_000), progress: Progress::new() };
    harness.workers.send(order);
    harness.workers.send(Order::KillAll);
    let outcomes = harness.workers.ask(Order::Outcomes).await.expect("a supervisor");
    let stop = outcomes[0].stop.as_ref().expect("an outcome");
    assert_eq!((stop.departure, outcomes[0].pid.is_some()), (Departure::Remains, true));
}
