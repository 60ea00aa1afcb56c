//! `mcpctl shutdown --now` and a second `SIGINT`: straight to `SIGKILL`, still verified.

use mcpd_common::outcome::{FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::shutdown_run::{Ended, ShutdownRun};
use crate::supervisor::fake::scene::Scene;
use crate::supervisor::fake::script::{Nature, Script, ms};
use crate::supervisor::fake::world::Effect::{Gone, Killed, Posted, Termed};

async fn cut_short_after(wait_ms: u64, script: Script) -> Ended {
    let scene = Scene::running([("docs", script)]).await;
    ShutdownRun::of(scene).cut_short_after(ms(wait_ms)).run().await
}

fn stubborn() -> Script {
    Script::deaf().with_leader(Nature::STUBBORN)
}

#[tokio::test(start_paused = true)]
async fn from_the_beginning_everybody_is_asked_and_killed() {
    let scene = Scene::running([("docs", stubborn()), ("web", Script::never_ready())]).await;
    let ended = ShutdownRun::of(scene).cut_short().run().await;
    assert_eq!((ended.code(), ended.seconds()), (3, 0.0));
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (0.0, Killed), (0.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn in_the_graceful_time_it_is_over_at_once() {
    let ended = cut_short_after(1_000, stubborn()).await;
    assert_eq!((ended.code(), ended.seconds()), (3, 1.0));
    // Whichever is seen first: the cut, or that no worker is left.
    assert_ne!(ended.phase(Phase::WorkersGraceful).outcome, PhaseOutcome::Deadline);
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (1.0, Killed), (1.0, Gone)]);
    assert!(ended.report.proof.is_some(), "still verified");
}

#[tokio::test(start_paused = true)]
async fn in_the_time_for_sigterm_it_is_over_at_once() {
    let ended = cut_short_after(15_000, stubborn()).await;
    assert_eq!((ended.code(), ended.seconds()), (3, 15.0));
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (10.0, Termed), (15.0, Killed), (15.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn those_who_have_left_before_have_left_cleanly() {
    let ended = cut_short_after(1_000, Script::polite()).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 0.1));
}

#[tokio::test(start_paused = true)]
async fn what_survives_sigkill_is_hunted_as_long_as_ever() {
    let ended = cut_short_after(1_000, Script::deaf().with_leader(Nature::UNKILLABLE)).await;
    assert_eq!(ended.code(), 5);
    assert_eq!(ended.phase(Phase::WorkersTerminate).duration_ms / 1000, 5);
    assert_eq!(ended.phase(Phase::Verification).outcome, PhaseOutcome::Done);
}

/// A stop command is a wait, too.
#[tokio::test(start_paused = true)]
async fn a_stop_command_is_cut_short() {
    let scene = Scene::running([("docs", Script::polite().with_stop_command("docker-stop"))]).await;
    scene.world.add_command("docker-stop", stubborn());
    let ended = ShutdownRun::of(scene).cut_short_after(ms(1_000)).run().await;
    assert_eq!((ended.code(), ended.seconds(), ended.world.living()), (0, 1.0, 0));
    let told = ended.details(FindingKind::Information);
    assert!(told.contains(&"stop_command docker-stop: the remaining waits were cut short"), "{told:?}");
}
