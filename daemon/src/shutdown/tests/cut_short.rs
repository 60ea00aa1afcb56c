//! `mcpctl shutdown --now` and a second `SIGINT` send `SIGKILL` at once; the shutdown is still verified.

use mcpd_common::outcome::{FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::shutdown_run::{RunResult, ShutdownRun};
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::harness::Harness;
use crate::supervisor::fake::system::Effect::{Gone, Killed, Posted, Terminated};

async fn cut_short_after(wait_ms: u64, behaviour: Behaviour) -> RunResult {
    let harness = Harness::running([("docs", behaviour)]).await;
    ShutdownRun::of(harness).cut_short_after(ms(wait_ms)).run().await
}

fn stubborn() -> Behaviour {
    Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)
}

#[tokio::test(start_paused = true)]
async fn cut_short_from_the_start_workers_get_a_stop_request_and_sigkill() {
    let harness = Harness::running([("docs", stubborn()), ("web", Behaviour::never_ready())]).await;
    let result = ShutdownRun::of(harness).cut_short().run().await;
    assert_eq!((result.code(), result.seconds()), (3, 0.0));
    assert_eq!(result.effects("docs"), [(0.0, Posted), (0.0, Killed), (0.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn cut_short_in_the_graceful_phase_workers_are_killed_at_once() {
    let result = cut_short_after(1_000, stubborn()).await;
    assert_eq!((result.code(), result.seconds()), (3, 1.0));
    // Cut short or done, depending on whether the exit of the last worker is noticed first.
    assert_ne!(result.phase(Phase::WorkersGraceful).outcome, PhaseOutcome::Deadline);
    assert_eq!(result.effects("docs"), [(0.0, Posted), (1.0, Killed), (1.0, Gone)]);
    assert!(result.report.proof.is_some(), "still verified");
}

#[tokio::test(start_paused = true)]
async fn cut_short_in_the_terminate_phase_workers_are_killed_at_once() {
    let result = cut_short_after(15_000, stubborn()).await;
    assert_eq!((result.code(), result.seconds()), (3, 15.0));
    assert_eq!(result.effects("docs"), [(0.0, Posted), (10.0, Terminated), (15.0, Killed), (15.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn workers_that_exited_before_count_as_graceful() {
    let result = cut_short_after(1_000, Behaviour::exits_on_request()).await;
    assert_eq!((result.code(), result.seconds()), (0, 0.1));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_survives_sigkill_is_killed_until_the_usual_limit() {
    let result =
        cut_short_after(1_000, Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE)).await;
    assert_eq!(result.code(), 5);
    assert_eq!(result.phase(Phase::WorkersTerminate).duration_ms / 1000, 5);
    assert_eq!(result.phase(Phase::Verification).outcome, PhaseOutcome::Done);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_stop_command_is_cut_short() {
    let harness =
        Harness::running([("docs", Behaviour::exits_on_request().with_stop_command("docker-stop"))]).await;
    harness.system.add_command("docker-stop", stubborn());
    let result = ShutdownRun::of(harness).cut_short_after(ms(1_000)).run().await;
    assert_eq!((result.code(), result.seconds(), result.system.living()), (0, 1.0, 0));
    let information = result.details(FindingKind::Information);
    assert!(
        information.contains(&"stop_command docker-stop: the remaining waits were cut short"),
        "{information:?}"
    );
}
