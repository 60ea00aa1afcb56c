//! How workers leave, what it takes, and when.

use mcpd_common::outcome::{Asked, Departure, FindingKind, PhaseOutcome};
use mcpd_common::phase::Phase;

use super::shutdown_run::{shut_down, shut_down_one};
use crate::supervisor::fake::behaviour::{Behaviour, Reply, SignalReaction, ms};
use crate::supervisor::fake::system::Effect::{Gone, Killed, Posted, Terminated};

/// Follows `SIGTERM` after half a second.
const SLOW: SignalReaction = SignalReaction { on_term: Some(ms(500)), on_kill: Some(ms(0)) };

/// R-EXIT-1: 0. R-SHUT-2: over when it is done.
#[tokio::test(start_paused = true)]
async fn a_polite_worker_exits_cleanly_and_at_once() {
    let ended = shut_down_one(Behaviour::exits_on_request()).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 0.1));
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (0.1, Gone)]);
    let row = ended.worker("docs");
    assert_eq!(
        (row.asked, row.answer.as_deref(), row.departure),
        (Asked::Http, Some("202"), Departure::Left)
    );
    assert!(row.checks.iter().all(|check| check.passed), "{:#?}", row.checks);
    assert!(ended.report.phases.iter().all(|phase| phase.outcome == PhaseOutcome::Done));
}

/// R-EXIT-1: `SIGTERM` is the request.
#[tokio::test(start_paused = true)]
async fn a_worker_without_a_route_or_never_ready_is_asked_by_sigterm() {
    for behaviour in [Behaviour::without_route(), Behaviour::never_ready()] {
        let ended = shut_down_one(behaviour).await;
        assert_eq!((ended.code(), ended.worker("docs").asked), (0, Asked::Sigterm));
        assert_eq!(ended.effects("docs"), [(0.0, Terminated), (0.0, Gone)]);
    }
}

/// R-EXIT-1: any 4xx or 501.
#[tokio::test(start_paused = true)]
async fn a_route_that_is_none_makes_sigterm_the_request() {
    for status in [400, 401, 404, 405, 426, 501] {
        let ended = shut_down_one(Behaviour::replies(Reply::Status(status)).with_leader(SLOW)).await;
        assert_eq!((ended.code(), ended.worker("docs").asked), (0, Asked::Sigterm), "{status}");
        assert_eq!(ended.effects("docs"), [(0.0, Posted), (0.0, Terminated), (0.5, Gone)]);
    }
}

/// R-EXIT-1: escalates at once, and counts.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_answered_by_sigterm_at_once() {
    for reply in [Reply::Status(500), Reply::Status(503), Reply::Refused] {
        let ended = shut_down_one(Behaviour::replies(reply)).await;
        assert_eq!((ended.code(), ended.seconds()), (2, 0.0), "{reply:?}");
        assert_eq!(ended.faults(), [FindingKind::WorkerTerminated]);
        assert_eq!(ended.effects("docs"), [(0.0, Posted), (0.0, Terminated), (0.0, Gone)]);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_refusal_after_five_seconds() {
    let ended = shut_down_one(Behaviour::replies(Reply::Silence)).await;
    assert_eq!((ended.code(), ended.seconds()), (2, 5.0));
    assert!(ended.detail(FindingKind::WorkerTerminated).contains("response: not done in time"));
}

/// R-EXIT-1: 2. The graceful time is 10 s.
#[tokio::test(start_paused = true)]
async fn a_worker_that_accepts_and_stays_gets_sigterm_after_ten_seconds() {
    let ended = shut_down_one(Behaviour::ignores_request()).await;
    assert_eq!((ended.code(), ended.seconds()), (2, 10.0));
    assert_eq!(ended.phase(Phase::WorkersGraceful).outcome, PhaseOutcome::Deadline);
    assert_eq!(ended.phase(Phase::WorkersTerminate).outcome, PhaseOutcome::Done);
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (10.0, Terminated), (10.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn nine_seconds_are_within_the_graceful_time() {
    let ended = shut_down_one(Behaviour::exits_on_request().exiting_after(ms(9_000))).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 9.0));
}

#[tokio::test(start_paused = true)]
async fn nineteen_seconds_are_within_the_time_for_sigterm() {
    let slow = SignalReaction { on_term: Some(ms(19_000)), ..SignalReaction::EXITS };
    let ended = shut_down_one(Behaviour::ignores_request().with_leader(slow)).await;
    assert_eq!((ended.code(), ended.seconds()), (2, 29.0));
}

/// R-EXIT-1: 3. `SIGTERM` has 20 s.
#[tokio::test(start_paused = true)]
async fn a_worker_that_ignores_sigterm_is_killed_after_twenty_more_seconds() {
    let ended =
        shut_down_one(Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    assert_eq!((ended.code(), ended.seconds()), (3, 30.0));
    assert_eq!(ended.faults(), [FindingKind::WorkerKilled]);
    assert_eq!(ended.effects("docs"), [(0.0, Posted), (10.0, Terminated), (30.0, Killed), (30.0, Gone)]);
}

/// Where `SIGTERM` was the request it is repeated when it is due, and has its whole time.
#[tokio::test(start_paused = true)]
async fn a_request_by_sigterm_that_is_ignored_is_not_the_last_word() {
    let ended = shut_down_one(Behaviour::without_route().with_leader(SignalReaction::IGNORES_SIGTERM)).await;
    assert_eq!((ended.code(), ended.seconds()), (3, 30.0));
    assert_eq!(ended.effects("docs"), [(0.0, Terminated), (10.0, Terminated), (30.0, Killed), (30.0, Gone)]);
}

#[tokio::test(start_paused = true)]
async fn sigterm_that_was_sent_early_has_no_more_than_its_twenty_seconds() {
    let behaviour = Behaviour::replies(Reply::Status(500)).with_leader(SignalReaction::IGNORES_SIGTERM);
    let ended = shut_down_one(behaviour).await;
    assert_eq!((ended.code(), ended.seconds()), (3, 20.0));
}

/// R-EXIT-1: 5. Five seconds of `SIGKILL`, and verification tries as long as it may.
#[tokio::test(start_paused = true)]
async fn what_survives_sigkill_is_named() {
    let ended = shut_down_one(Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE)).await;
    assert_eq!(ended.code(), 5);
    assert_eq!(ended.faults(), [FindingKind::ProcessLeft, FindingKind::WorkerKilled]);
    assert_eq!(ended.worker("docs").departure, Departure::Remains);
    assert!(ended.detail(FindingKind::ProcessLeft).contains("it survived SIGKILL"));
    assert!(ended.worker("docs").checks.iter().any(|check| !check.passed));
    assert!(ended.seconds() > 35.0 && ended.seconds() < 50.0, "{}", ended.seconds());
}

/// It is gone in the end, and what it took is not forgotten.
#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_only_during_verification_was_killed_all_the_same() {
    let slow = SignalReaction { on_term: None, on_kill: Some(ms(7_000)) };
    let ended = shut_down_one(Behaviour::ignores_request().with_leader(slow)).await;
    assert_eq!((ended.code(), ended.seconds()), (3, 37.0));
    assert_eq!(ended.faults(), [FindingKind::WorkerKilled]);
}

/// They are the worker's, even where `npx` and its like leave first.
#[tokio::test(start_paused = true)]
async fn descendants_that_follow_sigterm_count_as_terminated() {
    let ended = shut_down_one(Behaviour::exits_on_request().with_descendant(SLOW)).await;
    assert_eq!((ended.code(), ended.seconds()), (2, 0.6));
    assert_eq!(ended.faults(), [FindingKind::DescendantsTerminated]);
    assert_eq!(ended.worker("docs").outlived.len(), 1);
    assert!(ended.detail(FindingKind::DescendantsTerminated).contains("pid 5000002"));
}

#[tokio::test(start_paused = true)]
async fn descendants_that_were_asked_by_sigterm_like_their_leader_may_follow_it() {
    let ended = shut_down_one(Behaviour::without_route().with_descendant(SLOW)).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 0.5));
    assert!(ended.detail(FindingKind::Information).contains("outlived their leader, then exited"));
}

#[tokio::test(start_paused = true)]
async fn descendants_that_ignore_sigterm_are_killed_after_two_seconds() {
    for behaviour in [Behaviour::exits_on_request().exiting_after(ms(0)), Behaviour::without_route()] {
        let ended = shut_down_one(behaviour.with_descendant(SignalReaction::IGNORES_SIGTERM)).await;
        assert_eq!((ended.code(), ended.seconds()), (3, 2.0));
        assert_eq!(ended.faults(), [FindingKind::DescendantsKilled]);
    }
}

#[tokio::test(start_paused = true)]
async fn descendants_that_nothing_ends_are_left_and_named() {
    let ended =
        shut_down_one(Behaviour::exits_on_request().with_descendant(SignalReaction::UNKILLABLE)).await;
    assert_eq!(ended.code(), 5);
    assert_eq!(ended.faults(), [FindingKind::ProcessLeft, FindingKind::DescendantsKilled]);
    assert_eq!(ended.phase(Phase::WorkersGraceful).duration_ms / 1000, 7, "given up, not waited for");
}

/// Section 6: all at the same time.
#[tokio::test(start_paused = true)]
async fn fifty_workers_take_as_long_as_the_slowest() {
    let names: Vec<_> = (0..50).map(|number| format!("w{number:02}")).collect();
    let behaviour = |number: usize| Behaviour::exits_on_request().exiting_after(ms(100 * number as u64));
    let behaviours = names.iter().enumerate().map(|(number, name)| (name.as_str(), behaviour(number)));
    let ended = shut_down(behaviours).await;
    assert_eq!((ended.code(), ended.seconds()), (0, 4.9));
    assert_eq!(ended.report.workers.len(), 50);
}

/// R-EXIT-1: the highest that applies; every worker has its own row and finding.
#[tokio::test(start_paused = true)]
async fn each_worker_takes_its_own_way() {
    let ended = shut_down([
        ("a", Behaviour::exits_on_request()),
        ("b", Behaviour::replies(Reply::Status(500))),
        ("c", Behaviour::ignores_request().with_leader(SignalReaction::IGNORES_SIGTERM)),
        ("d", Behaviour::without_route()),
    ])
    .await;
    assert_eq!((ended.code(), ended.seconds()), (3, 30.0));
    assert_eq!(ended.faults(), [FindingKind::WorkerKilled, FindingKind::WorkerTerminated]);
    let departures: Vec<_> = ended.report.workers.iter().map(|worker| worker.departure).collect();
    assert_eq!(departures, [Departure::Left, Departure::Terminated, Departure::Killed, Departure::Left]);
}
