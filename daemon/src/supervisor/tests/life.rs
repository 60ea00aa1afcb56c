//! Starting, probing, dying, coming back.

use mcpd_common::config::RestartPolicy;
use mcpd_common::outcome::ExitStatus;
use mcpd_common::status::WorkerState::{BackingOff, Failed, Ready, Starting, Stopped, Unhealthy};
use std::time::Duration;

use crate::supervisor::backoff::QUICK_DEATHS;
use crate::supervisor::fake::scene::Scene;
use crate::supervisor::fake::script::{Nature, Script, ms};
use crate::supervisor::fake::world::Effect;
use crate::supervisor::handle::WorkerAction;

const CRASH: ExitStatus = ExitStatus::Code(1);
/// Past ten quick deaths with all waits between them.
const LONG: Duration = Duration::from_secs(300);

/// R-SUP-1, R-SUP-2: being there is not being ready.
#[tokio::test(start_paused = true)]
async fn a_worker_is_ready_when_its_probe_is_answered() {
    let scene = Scene::running([("mute", Script::never_ready()), ("polite", Script::polite())]).await;
    assert_eq!((scene.state("mute").await, scene.state("polite").await), (Starting, Ready));
    let status = scene.status("mute").await;
    assert!(status.pid.is_some() && status.started_at.is_some());
    scene.world.rewrite("mute", Script::polite());
    assert!(scene.until("mute", Ready).await <= ms(251), "it is asked again and again");
}

/// R-CONT-3.
#[tokio::test(start_paused = true)]
async fn status_counts_descendants() {
    let script = Script::polite().with_descendant(Nature::MILD).with_descendant(Nature::MILD);
    let scene = Scene::running([("docs", script)]).await;
    assert_eq!(scene.status("docs").await.descendants, 2);
}

/// R-SUP-2: shown, and no more.
#[tokio::test(start_paused = true)]
async fn three_unanswered_probes_show_unhealthy_and_restart_nothing() {
    let scene = Scene::running([("docs", Script::polite())]).await;
    scene.world.rewrite("docs", Script::never_ready());
    let took = scene.until("docs", Unhealthy).await;
    assert!(took > ms(29_000) && took < ms(31_000), "three probes, 10 s apart: {took:?}");
    scene.world.rewrite("docs", Script::polite());
    scene.until("docs", Ready).await;
    assert_eq!(scene.world.effects("docs"), [Effect::Spawned]);
}

/// R-SUP-2.
#[tokio::test(start_paused = true)]
async fn an_unhealthy_worker_is_restarted_if_so_configured() {
    let scene = Scene::configured([("docs", Script::polite())], |config| {
        config.workers.values_mut().for_each(|worker| worker.restart_unhealthy = true);
    });
    scene.start_all().await;
    scene.world.rewrite("docs", Script { answers_probe: false, ..Script::polite() });
    scene.until("docs", BackingOff).await;
    scene.world.rewrite("docs", Script::polite());
    scene.until("docs", Ready).await;
    assert_eq!(scene.world.effects("docs"), [Effect::Spawned, Effect::Posted, Effect::Gone, Effect::Spawned]);
}

/// R-SUP-3: noticed when it happens, back after the first step of the backoff.
#[tokio::test(start_paused = true)]
async fn a_crash_is_noticed_at_once_and_mended_soon() {
    let scene = Scene::running([("docs", Script::ending(ms(5_000), CRASH))]).await;
    scene.world.rewrite("docs", Script::polite());
    scene.until("docs", BackingOff).await;
    let gone = scene.world.when("docs", Effect::Gone).expect("gone");
    assert!(gone >= ms(5_000) && gone < ms(5_010), "{gone:?}");
    assert_eq!(scene.status("docs").await.last_exit, Some(CRASH));
    let took = scene.until("docs", Starting).await;
    assert!(took >= ms(140) && took <= ms(210), "{took:?}");
    scene.until("docs", Ready).await;
    assert_eq!(scene.status("docs").await.restarts, 1);
}

/// R-SUP-3.
#[tokio::test(start_paused = true)]
async fn ten_quick_deaths_are_enough_until_it_is_restarted() {
    let scene = Scene::running([("docs", Script::ending(ms(100), CRASH))]).await;
    scene.until("docs", Failed).await;
    scene.pass(LONG).await;
    assert_eq!(scene.world.count(Effect::Spawned), QUICK_DEATHS as usize);
    let reason = scene.status("docs").await.reason.expect("a reason");
    assert!(reason.contains("10 quick deaths") && reason.contains("mcpctl restart"), "{reason}");
    scene.world.rewrite("docs", Script::polite());
    scene.action("docs", WorkerAction::Restart).await.expect("known");
    scene.until("docs", Ready).await;
}

/// R-SUP-3: whatever the old one left is gone before the new one starts.
#[tokio::test(start_paused = true)]
async fn a_crash_s_remnants_are_gone_before_it_comes_back() {
    let script = Script::ending(ms(1_000), CRASH).with_descendant(Nature::STUBBORN);
    let scene = Scene::running([("docs", script)]).await;
    scene.world.rewrite("docs", Script::polite());
    scene.until("docs", BackingOff).await;
    scene.until("docs", Ready).await;
    let effects = [Effect::Spawned, Effect::Termed, Effect::Killed, Effect::Gone, Effect::Spawned];
    assert_eq!(scene.world.effects("docs"), effects);
    let gone = scene.world.when("docs", Effect::Gone).expect("gone");
    assert!(gone >= ms(3_000) && gone < ms(3_050), "2 s for SIGTERM: {gone:?}");
}

/// R-SUP-3: if that can't be had, it has failed and says why.
#[tokio::test(start_paused = true)]
async fn remnants_that_can_t_be_ended_keep_it_from_coming_back() {
    let script = Script::ending(ms(1_000), CRASH).with_descendant(Nature::UNKILLABLE);
    let scene = Scene::running([("docs", script)]).await;
    let took = scene.until("docs", Failed).await;
    assert!(took < ms(8_100), "1 s, 2 s for SIGTERM, 5 s for SIGKILL: {took:?}");
    scene.pass(LONG).await;
    let reason = scene.status("docs").await.reason.expect("a reason");
    assert!(reason.contains("could not be ended"), "{reason}");
    assert_eq!(scene.world.count(Effect::Spawned), 1);
    assert_eq!(scene.world.count(Effect::SpawnedTooEarly), 0);
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_which_worker_is_restarted() {
    let clean = Script::ending(ms(100), ExitStatus::Code(0));
    let crashing = Script::ending(ms(100), CRASH);
    let scripts = [("a", clean.clone()), ("b", clean), ("c", crashing.clone()), ("d", crashing)];
    let scene = Scene::configured(scripts, |config| {
        for worker in config.workers.values_mut() {
            worker.restart = match worker.name.as_str() {
                "a" => RestartPolicy::Always,
                "b" => RestartPolicy::OnFailure,
                "c" => RestartPolicy::OnFailure,
                _ => RestartPolicy::Never,
            };
        }
    });
    scene.start_all().await;
    scene.pass(ms(60)).await;
    let states =
        [scene.state("a").await, scene.state("b").await, scene.state("c").await, scene.state("d").await];
    assert_eq!(states, [BackingOff, Stopped, BackingOff, Failed]);
}

/// R-SUP-6: and the others start all the same.
#[tokio::test(start_paused = true)]
async fn a_held_port_is_reported_with_its_holder() {
    let scene = Scene::of([("docs", Script::polite()), ("other", Script::polite())]);
    scene.world.hold_port("docs", "nginx (pid 80, www)");
    scene.start_all().await;
    let status = scene.status("docs").await;
    assert_eq!((status.state, scene.state("other").await), (BackingOff, Ready));
    assert_eq!(status.reason.as_deref(), Some("port 20000 is held by nginx (pid 80, www)"));
    assert_eq!(scene.world.effects("docs"), [], "not started to fail by itself");
}

/// R-CONF-4.
#[tokio::test(start_paused = true)]
async fn a_worker_that_can_t_be_started_reports_why_and_stops_no_other() {
    let broken = Script { refuses_to_start: true, ..Script::polite() };
    let scene = Scene::running([("broken", broken), ("docs", Script::polite())]).await;
    assert_eq!(scene.state("docs").await, Ready);
    scene.until("broken", Failed).await;
    let reason = scene.status("broken").await.reason.expect("a reason");
    assert!(reason.starts_with("can't start mcpd"), "{reason}");
}

/// R-CONF-4.
#[tokio::test(start_paused = true)]
async fn an_unusable_worker_has_failed_from_the_beginning() {
    let scene = Scene::configured([("docs", Script::polite())], |config| {
        config.workers.values_mut().for_each(|worker| worker.unusable = Some("no such directory".into()));
    });
    scene.start_all().await;
    let status = scene.status("docs").await;
    assert_eq!((status.state, status.reason.as_deref()), (Failed, Some("no such directory")));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_answered_with_the_known_ones() {
    let scene = Scene::of([("docs", Script::polite()), ("web", Script::polite())]);
    let unknown = scene.action("dogs", WorkerAction::Start).await.expect_err("unknown");
    assert_eq!(unknown.to_string(), "there is no worker \"dogs\"; there are: docs, web");
}

#[tokio::test(start_paused = true)]
async fn every_change_of_state_is_published() {
    let scene = Scene::of([("docs", Script::polite())]);
    let mut transitions = scene.workers.transitions();
    scene.start_all().await;
    scene.action("docs", WorkerAction::Stop).await.expect("known");
    scene.until("docs", Stopped).await;
    let mut told = vec![];
    while let Ok(transition) = transitions.try_recv() {
        told.push(transition.state.name());
    }
    assert_eq!(told, ["starting", "ready", "stopping", "stopped"]);
}
