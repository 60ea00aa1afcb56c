//! `mcpctl shutdown --now` and a second `SIGINT`: straight to `SIGKILL`, still verified.

use mcpd_common::outcome::{FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::shutdown_run::{Ended, ShutdownRun};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;
use crate::supervisor::fake::system::Effect::{Gone, Killed, Posted, Terminated};

async fn cut_short_after(wait_ms: u64, behaviour: Behaviour) -> Ended {
    let harness = Harness::running([("docs", behaviour)]).await;
    ShutdownRun::of(harness).cut_short_after(ms(wait_ms)).run().await
}

fn stubborn() -> Behaviour {
    Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)
}

#[tokio::test(start_paused = true)]
async fn from_the_beginning_everybody_is_asked_and_killed() {
    let harness = Harness::running([("docs", stubborn()), ("web", Behaviour::never_ready())]).await;
    let ended = ShutdownRun::of(harness).cut_short().run().await;
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
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (10.0, Terminated), (15.0, Killed), (15.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn those_who_have_left_before_have_left_cleanly() {
    let ended = cut_short_after(1_000, Behaviour::exits_on_request()).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 0.1));
}

#[tokio::test(start_paused = true)]
async fn what_survives_sigkill_is_hunted_as_long_as_ever() {
    let ended =
        cut_short_after(1_000, Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE)).await;
    assert_eq!(ended.code(), 5);
    assert_eq!(ended.phase(Phase::WorkersTerminate).duration_ms / 1000, 5);
    assert_eq!(ended.phase(Phase::Verification).outcome, PhaseOutcome::Done);
}

/// A stop command is a wait, too.
#[tokio::test(start_paused = true)]
async fn a_stop_command_is_cut_short() {
    let harness =
        Harness::running([("docs", Behaviour::exits_on_request().with_stop_command("docker-stop"))]).await;
    harness.system.add_command("docker-stop", stubborn());
    let ended = ShutdownRun::of(harness).cut_short_after(ms(1_000)).run().await;
    assert_eq!((ended.code(), ended.seconds(), ended.system.living()), (0, 1.0, 0));
    let told = ended.details(FindingKind::Information);
    assert!(told.contains(&"stop_command docker-stop: the remaining waits were cut short"), "{told:?}");
}
