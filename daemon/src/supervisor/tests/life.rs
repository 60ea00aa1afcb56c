//! Starts, probes, crashes and restarts.

use mcpd_common::config::RestartPolicy;
use mcpd_common::outcome::ExitStatus;
use mcpd_common::status::WorkerState::{BackingOff, Failed, Ready, Starting, Stopped, Unhealthy};
use std::time::Duration;

use crate::supervisor::backoff::QUICK_DEATHS;
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;
use crate::supervisor::fake::system::Effect;
use crate::supervisor::handle::WorkerAction;

const CRASH: ExitStatus = ExitStatus::Code(1);
/// Longer than ten crashes with all backoff delays between them.
const LONG: Duration = Duration::from_secs(300);

/// R-SUP-1, R-SUP-2: a running worker is not yet ready.
#[tokio::test(start_paused = true)]
async fn a_worker_is_ready_when_its_probe_succeeds() {
    let harness =
        Harness::running([("docs", Behaviour::exits_on_request()), ("slow", Behaviour::never_ready())]).await;
    assert_eq!(harness.state("docs").await, Ready);
    let status = harness.status("slow").await;
    assert_eq!(status.state, Starting);
    assert!(status.pid.is_some() && status.started_at.is_some());
    harness.system.set_behaviour("slow", Behaviour::exits_on_request());
    assert!(harness.until("slow", Ready).await <= ms(251), "the probe is repeated");
}

/// R-CONT-3.
#[tokio::test(start_paused = true)]
async fn status_counts_descendants() {
    let behaviour = Behaviour::exits_on_request()
        .with_descendant(SignalReaction::EXITS)
        .with_descendant(SignalReaction::EXITS);
    let harness = Harness::running([("docs", behaviour)]).await;
    assert_eq!(harness.status("docs").await.descendants, 2);
}

/// R-SUP-2.
#[tokio::test(start_paused = true)]
async fn three_failed_probes_show_unhealthy_and_restart_nothing() {
    let harness = Harness::running([("docs", Behaviour::exits_on_request())]).await;
    harness.system.set_behaviour("docs", Behaviour::never_ready());
    let took = harness.until("docs", Unhealthy).await;
    assert!(took > ms(29_000) && took < ms(31_000), "three probes, 10 s apart: {took:?}");
    harness.system.set_behaviour("docs", Behaviour::exits_on_request());
    harness.until("docs", Ready).await;
    assert_eq!(harness.system.effects("docs"), [Effect::Spawned]);
}

/// R-SUP-2.
#[tokio::test(start_paused = true)]
async fn an_unhealthy_worker_is_restarted_if_configured() {
    let harness = Harness::configured([("docs", Behaviour::exits_on_request())], |config| {
        config.workers.values_mut().for_each(|worker| worker.restart_unhealthy = true);
    });
    harness.start_all().await;
    harness
        .system
        .set_behaviour("docs", Behaviour { probe_succeeds: false, ..Behaviour::exits_on_request() });
    harness.until("docs", BackingOff).await;
    harness.system.set_behaviour("docs", Behaviour::exits_on_request());
    harness.until("docs", Ready).await;
    assert_eq!(
        harness.system.effects("docs"),
        [Effect::Spawned, Effect::Posted, Effect::Gone, Effect::Spawned]
    );
}

/// R-SUP-3: the restart comes after the first delay of the backoff.
#[tokio::test(start_paused = true)]
async fn a_crash_is_noticed_at_once_and_the_worker_restarted_soon() {
    let harness = Harness::running([("docs", Behaviour::exits_after(ms(5_000), CRASH))]).await;
    harness.system.set_behaviour("docs", Behaviour::exits_on_request());
    harness.until("docs", BackingOff).await;
    let gone = harness.system.when("docs", Effect::Gone).expect("gone");
    assert!(gone >= ms(5_000) && gone < ms(5_010), "{gone:?}");
    assert_eq!(harness.status("docs").await.last_exit, Some(CRASH));
    let took = harness.until("docs", Starting).await;
    assert!(took >= ms(140) && took <= ms(210), "{took:?}");
    harness.until("docs", Ready).await;
    assert_eq!(harness.status("docs").await.restarts, 1);
}

/// R-SUP-3.
#[tokio::test(start_paused = true)]
async fn a_worker_that_crashes_ten_times_fails_until_mcpctl_restart() {
    let harness = Harness::running([("docs", Behaviour::exits_after(ms(100), CRASH))]).await;
    harness.until("docs", Failed).await;
    harness.pass(LONG).await;
    assert_eq!(harness.system.count(Effect::Spawned), QUICK_DEATHS as usize);
    let reason = harness.status("docs").await.reason.expect("a reason");
    assert!(reason.contains("10 quick deaths") && reason.contains("mcpctl restart"), "{reason}");
    harness.system.set_behaviour("docs", Behaviour::exits_on_request());
    harness.action("docs", WorkerAction::Restart).await.expect("known");
    harness.until("docs", Ready).await;
}

/// R-SUP-3.
#[tokio::test(start_paused = true)]
async fn descendants_of_a_crashed_worker_are_killed_before_its_restart() {
    let behaviour = Behaviour::exits_after(ms(1_000), CRASH).with_descendant(SignalReaction::IGNORES_SIGTERM);
    let harness = Harness::running([("docs", behaviour)]).await;
    harness.system.set_behaviour("docs", Behaviour::exits_on_request());
    harness.until("docs", BackingOff).await;
    harness.until("docs", Ready).await;
    let effects = [Effect::Spawned, Effect::Terminated, Effect::Killed, Effect::Gone, Effect::Spawned];
    assert_eq!(harness.system.effects("docs"), effects);
    let gone = harness.system.when("docs", Effect::Gone).expect("gone");
    assert!(gone >= ms(3_000) && gone < ms(3_050), "2 s for SIGTERM: {gone:?}");
}

/// R-SUP-3.
#[tokio::test(start_paused = true)]
async fn descendants_that_survive_sigkill_prevent_the_restart() {
    let behaviour = Behaviour::exits_after(ms(1_000), CRASH).with_descendant(SignalReaction::UNKILLABLE);
    let harness = Harness::running([("docs", behaviour)]).await;
    let took = harness.until("docs", Failed).await;
    assert!(took < ms(8_100), "1 s, 2 s for SIGTERM, 5 s for SIGKILL: {took:?}");
    harness.pass(LONG).await;
    let reason = harness.status("docs").await.reason.expect("a reason");
    assert!(reason.contains("could not be ended"), "{reason}");
    assert_eq!(harness.system.count(Effect::Spawned), 1);
    assert_eq!(harness.system.count(Effect::SpawnedTooEarly), 0);
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_which_worker_is_restarted() {
    let clean = Behaviour::exits_after(ms(100), ExitStatus::Code(0));
    let crashing = Behaviour::exits_after(ms(100), CRASH);
    let behaviours = [("a", clean.clone()), ("b", clean), ("c", crashing.clone()), ("d", crashing)];
    let harness = Harness::configured(behaviours, |config| {
        for worker in config.workers.values_mut() {
            worker.restart = match worker.name.as_str() {
                "a" => RestartPolicy::Always,
                "b" => RestartPolicy::OnFailure,
                "c" => RestartPolicy::OnFailure,
                _ => RestartPolicy::Never,
            };
        }
    });
    harness.start_all().await;
    harness.pass(ms(60)).await;
    let states = [
        harness.state("a").await,
        harness.state("b").await,
        harness.state("c").await,
        harness.state("d").await,
    ];
    assert_eq!(states, [BackingOff, Stopped, BackingOff, Failed]);
}

/// R-SUP-6: the other workers start.
#[tokio::test(start_paused = true)]
async fn a_held_port_is_reported_with_its_holder() {
    let harness =
        Harness::of([("docs", Behaviour::exits_on_request()), ("other", Behaviour::exits_on_request())]);
    harness.system.hold_port("docs", "nginx (pid 80, www)");
    harness.start_all().await;
    let status = harness.status("docs").await;
    assert_eq!((status.state, harness.state("other").await), (BackingOff, Ready));
    assert_eq!(status.reason.as_deref(), Some("port 20000 is held by nginx (pid 80, www)"));
    assert_eq!(harness.system.effects("docs"), [], "not started only to fail");
}

/// R-CONF-4.
#[tokio::test(start_paused = true)]
async fn a_worker_that_can_t_be_started_reports_why_and_affects_no_other() {
    let broken = Behaviour { fails_to_start: true, ..Behaviour::exits_on_request() };
    let harness = Harness::running([("broken", broken), ("docs", Behaviour::exits_on_request())]).await;
    assert_eq!(harness.state("docs").await, Ready);
    harness.until("broken", Failed).await;
    let reason = harness.status("broken").await.reason.expect("a reason");
    assert!(reason.starts_with("can't start mcpd"), "{reason}");
}

/// R-CONF-4.
#[tokio::test(start_paused = true)]
async fn an_unusable_worker_is_failed_from_the_start() {
    let harness = Harness::configured([("docs", Behaviour::exits_on_request())], |config| {
        config.workers.values_mut().for_each(|worker| worker.unusable = Some("no such directory".into()));
    });
    harness.start_all().await;
    let status = harness.status("docs").await;
    assert_eq!((status.state, status.reason.as_deref()), (Failed, Some("no such directory")));
}

#[tokio::test(start_paused = true)]
async fn the_error_for_an_unknown_name_lists_the_known_ones() {
    let harness =
        Harness::of([("docs", Behaviour::exits_on_request()), ("web", Behaviour::exits_on_request())]);
    let unknown = harness.action("dogs", WorkerAction::Start).await.expect_err("unknown");
    assert_eq!(unknown.to_string(), "there is no worker \"dogs\"; there are: docs, web");
}

#[tokio::test(start_paused = true)]
async fn every_change_of_state_is_published() {
    let harness = Harness::of([("docs", Behaviour::exits_on_request())]);
    let mut transitions = harness.workers.transitions();
    harness.start_all().await;
    harness.action("docs", WorkerAction::Stop).await.expect("known");
    harness.until("docs", Stopped).await;
    let mut published = vec![];
    while let Ok(transition) = transitions.try_recv() {
        published.push(transition.state.name());
    }
    assert_eq!(published, ["starting", "ready", "stopping", "stopped"]);
}

/// The file system of its program died after the check: the process is killed, and the worker started again.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_start_hangs_is_tried_again() {
    let hanging = Behaviour { start_hangs: true, ..Behaviour::exits_on_request() };
    let harness = Harness::running([("docs", hanging)]).await;
    harness.until("docs", BackingOff).await;
    assert_eq!(harness.status("docs").await.reason.as_deref(), Some("does not respond"));
    harness.system.set_behaviour("docs", Behaviour::exits_on_request());
    harness.until("docs", Ready).await;
    let expected = [Effect::Spawned, Effect::Terminated, Effect::Gone, Effect::Spawned];
    assert_eq!(harness.system.effects("docs"), expected);
}

/// A process that hangs for ever can't be killed. It is named, and nothing is started beside it.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_hanging_process_can_not_be_killed_fails() {
    let hanging = Behaviour { start_hangs: true, ..Behaviour::exits_on_request() }
        .with_leader(SignalReaction::UNKILLABLE);
    let harness = Harness::running([("docs", hanging)]).await;
    harness.until("docs", Failed).await;
    let reason = harness.status("docs").await.reason;
    assert_eq!(reason.as_deref(), Some("processes of its last run could not be ended"));
    assert_eq!(harness.system.living(), 1);
    assert_eq!(harness.system.count(Effect::Spawned), 1);
}

/// A start that is requested while the check of the last one still hangs is refused at once, and makes no second check.
#[tokio::test(start_paused = true)]
async fn a_start_check_that_hangs_is_not_repeated() {
    let hanging = Behaviour { check_hangs: true, ..Behaviour::exits_on_request() };
    let harness = Harness::running([("docs", hanging)]).await;
    harness.until("docs", BackingOff).await;
    let reason = harness.status("docs").await.reason.unwrap_or_default();
    assert!(reason.contains("does not respond") && !reason.contains("its last start"), "{reason}");
    let began = harness.system.now();
    let state = harness.action("docs", WorkerAction::Start).await;
    assert_eq!(state, Ok(BackingOff), "at once");
    let reason = harness.status("docs").await.reason.unwrap_or_default();
    assert!(reason.starts_with("its last start still waits: "), "{reason}");
    assert_eq!(harness.system.now(), began);
}
