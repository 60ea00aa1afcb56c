//! How workers are stopped: which signals they get, and when.

use mcpd_common::outcome::{Asked, Departure, FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::shutdown_run::{shut_down, shut_down_one};
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::system::Effect::{Gone, Killed, Posted, Terminated};

/// Exits half a second after `SIGTERM`.
const SLOW: SignalReaction = SignalReaction { on_term: Some(ms(500)), on_kill: Some(ms(0)) };

/// R-EXIT-1: code 0. R-SHUT-2: the phase ends with the exit.
#[tokio::test(start_paused = true)]
async fn a_worker_that_exits_on_request_is_clean() {
    let result = shut_down_one(Behaviour::exits_on_request()).await;
    assert_eq!((result.code(), result.seconds()), (0, 0.1));
    assert_eq!(result.effects("docs"), [(0.0, Posted), (0.1, Gone)]);
    let row = result.worker("docs");
    assert_eq!(
        (row.asked, row.answer.as_deref(), row.departure),
        (Asked::Http, Some("202"), Departure::Left)
    );
    assert!(row.checks.iter().all(|check| check.passed), "{:#?}", row.checks);
    assert!(result.report.phases.iter().all(|phase| phase.outcome == PhaseOutcome::Done));
}

/// R-EXIT-1.
#[tokio::test(start_paused = true)]
async fn a_worker_without_a_route_or_never_ready_gets_sigterm_as_the_request() {
    for behaviour in [Behaviour::without_route(), Behaviour::never_ready()] {
        let result = shut_down_one(behaviour).await;
        assert_eq!((result.code(), result.worker("docs").asked), (0, Asked::Sigterm));
        assert_eq!(result.effects("docs"), [(0.0, Terminated), (0.0, Gone)]);
    }
}

/// R-EXIT-1: any 4xx or 501.
#[tokio::test(start_paused = true)]
async fn an_error_that_means_no_such_route_makes_sigterm_the_request() {
    for status in [400, 401, 404, 405, 426, 501] {
        let result = shut_down_one(Behaviour::replies(Reply::Status(status)).with_leader(SLOW)).await;
        assert_eq!((result.code(), result.worker("docs").asked), (0, Asked::Sigterm), "{status}");
        assert_eq!(result.effects("docs"), [(0.0, Posted), (0.0, Terminated), (0.5, Gone)]);
    }
}

/// R-EXIT-1: code 2.
#[tokio::test(start_paused = true)]
async fn a_failed_request_is_followed_by_sigterm_at_once() {
    for reply in [Reply::Status(500), Reply::Status(503), Reply::Refused] {
        let result = shut_down_one(Behaviour::replies(reply)).await;
        assert_eq!((result.code(), result.seconds()), (2, 0.0), "{reply:?}");
        assert_eq!(result.faults(), [FindingKind::WorkerTerminated]);
        assert_eq!(result.effects("docs"), [(0.0, Posted), (0.0, Terminated), (0.0, Gone)]);
    }
}

#[tokio::test(start_paused = true)]
async fn no_response_counts_as_a_failed_request_after_five_seconds() {
    let result = shut_down_one(Behaviour::replies(Reply::Silence)).await;
    assert_eq!((result.code(), result.seconds()), (2, 5.0));
    assert!(result.detail(FindingKind::WorkerTerminated).contains("response: not done in time"));
}

/// R-EXIT-1: code 2. The graceful time is 10 s.
#[tokio::test(start_paused = true)]
async fn a_worker_that_accepts_the_request_and_keeps_running_gets_sigterm_after_ten_seconds() {
    let result = shut_down_one(Behaviour::ignores_request()).await;
    assert_eq!((result.code(), result.seconds()), (2, 10.0));
    assert_eq!(result.phase(Phase::WorkersGraceful).outcome, PhaseOutcome::Deadline);
    assert_eq!(result.phase(Phase::WorkersTerminate).outcome, PhaseOutcome::Done);
    assert_eq!(result.effects("docs"), [(0.0, Posted), (10.0, Terminated), (10.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn an_exit_after_nine_seconds_is_within_the_graceful_time() {
    let result = shut_down_one(Behaviour::exits_on_request().exiting_after(ms(9_000))).await;
    assert_eq!((result.code(), result.seconds()), (0, 9.0));
}

#[tokio::test(start_paused = true)]
async fn an_exit_nineteen_seconds_after_sigterm_is_not_forced() {
    let slow = SignalReaction { on_term: Some(ms(19_000)), ..SignalReaction::EXITS };
    let result = shut_down_one(Behaviour::ignores_request().with_leader(slow)).await;
    assert_eq!((result.code(), result.seconds()), (2, 29.0));
}

/// R-EXIT-1: code 3. The time for `SIGTERM` is 20 s.
#[tokio::test(start_paused = true)]
async fn a_worker_that_ignores_sigterm_is_killed_after_twenty_more_seconds() {
    let result =
        shut_down_one(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    assert_eq!((result.code(), result.seconds()), (3, 30.0));
    assert_eq!(result.faults(), [FindingKind::WorkerKilled]);
    assert_eq!(result.effects("docs"), [(0.0, Posted), (10.0, Terminated), (30.0, Killed), (30.0, Gone)]);
}

/// `SIGTERM` is sent again after the graceful time, and its full 20 s start then.
#[tokio::test(start_paused = true)]
async fn sigterm_as_the_request_is_repeated_before_sigkill() {
    let result = shut_down_one(Behaviour::without_route().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    assert_eq!((result.code(), result.seconds()), (3, 30.0));
    assert_eq!(result.effects("docs"), [(0.0, Terminated), (10.0, Terminated), (30.0, Killed), (30.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn an_early_sigterm_is_followed_by_sigkill_after_twenty_seconds() {
    let behaviour = Behaviour::replies(Reply::Status(500)).with_leader(SignalReaction::IGNORES_SIGTERM);
    let result = shut_down_one(behaviour).await;
    assert_eq!((result.code(), result.seconds()), (3, 20.0));
}

/// R-EXIT-1: code 5. `SIGKILL` is repeated for 5 s, and in verification until its limit.
#[tokio::test(start_paused = true)]
async fn a_process_that_survives_sigkill_is_reported() {
    let result = shut_down_one(Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE)).await;
    assert_eq!(result.code(), 5);
    assert_eq!(result.faults(), [FindingKind::ProcessLeft, FindingKind::WorkerKilled]);
    assert_eq!(result.worker("docs").departure, Departure::Remains);
    assert!(result.detail(FindingKind::ProcessLeft).contains("it survived SIGKILL"));
    assert!(result.worker("docs").checks.iter().any(|check| !check.passed));
    assert!(result.seconds() > 35.0 && result.seconds() < 50.0, "{}", result.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_exits_during_verification_is_reported_as_killed() {
    let slow = SignalReaction { on_term: None, on_kill: Some(ms(7_000)) };
    let result = shut_down_one(Behaviour::ignores_request().with_leader(slow)).await;
    assert_eq!((result.code(), result.seconds()), (3, 37.0));
    assert_eq!(result.faults(), [FindingKind::WorkerKilled]);
}

/// The leader may be a wrapper such as `npx`, which exits before the server.
#[tokio::test(start_paused = true)]
async fn descendants_that_exit_on_sigterm_count_as_terminated() {
    let result = shut_down_one(Behaviour::exits_on_request().with_descendant(SLOW)).await;
    assert_eq!((result.code(), result.seconds()), (2, 0.6));
    assert_eq!(result.faults(), [FindingKind::DescendantsTerminated]);
    assert_eq!(result.worker("docs").outlived.len(), 1);
    assert!(result.detail(FindingKind::DescendantsTerminated).contains("pid 5000002"));
}

#[tokio::test(start_paused = true)]
async fn descendants_that_got_the_stop_request_sigterm_may_outlive_their_leader() {
    let result = shut_down_one(Behaviour::without_route().with_descendant(SLOW)).await;
    assert_eq!((result.code(), result.seconds()), (0, 0.5));
    assert!(result.detail(FindingKind::Information).contains("outlived their leader, then exited"));
}

#[tokio::test(start_paused = true)]
async fn descendants_that_ignore_sigterm_are_killed_after_two_seconds() {
    for behaviour in [Behaviour::exits_on_request().exiting_after(ms(0)), Behaviour::without_route()] {
        let result = shut_down_one(behaviour.with_descendant(SignalReaction::IGNORES_SIGTERM)).await;
        assert_eq!((result.code(), result.seconds()), (3, 2.0));
        assert_eq!(result.faults(), [FindingKind::DescendantsKilled]);
    }
}

#[tokio::test(start_paused = true)]
async fn descendants_that_survive_sigkill_are_reported() {
    let result =
        shut_down_one(Behaviour::exits_on_request().with_descendant(SignalReaction::UNKILLABLE)).await;
    assert_eq!(result.code(), 5);
    assert_eq!(result.faults(), [FindingKind::ProcessLeft, FindingKind::DescendantsKilled]);
    assert_eq!(result.phase(Phase::WorkersGraceful).duration_ms / 1000, 7, "given up after 2 s and 5 s");
}

/// Section 6: all are stopped at the same time.
#[tokio::test(start_paused = true)]
async fn fifty_workers_take_as_long_as_the_slowest() {
    let names: Vec<_> = (0..50).map(|number| format!("w{number:02}")).collect();
    let behaviour = |number: usize| Behaviour::exits_on_request().exiting_after(ms(100 * number as u64));
    let behaviours = names.iter().enumerate().map(|(number, name)| (name.as_str(), behaviour(number)));
    let result = shut_down(behaviours).await;
    assert_eq!((result.code(), result.seconds()), (0, 4.9));
    assert_eq!(result.report.workers.len(), 50);
}

/// R-EXIT-1: the highest code that applies; every worker has its own row and finding.
#[tokio::test(start_paused = true)]
async fn each_worker_is_stopped_independently() {
    let result = shut_down([
        ("a", Behaviour::exits_on_request()),
        ("b", Behaviour::replies(Reply::Status(500))),
        ("c", Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)),
        ("d", Behaviour::without_route()),
    ])
    .await;
    assert_eq!((result.code(), result.seconds()), (3, 30.0));
    assert_eq!(result.faults(), [FindingKind::WorkerKilled, FindingKind::WorkerTerminated]);
    let departures: Vec<_> = result.report.workers.iter().map(|worker| worker.departure).collect();
    assert_eq!(departures, [Departure::Left, Departure::Terminated, Departure::Killed, Departure::Left]);
}
