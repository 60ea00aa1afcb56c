use super::*;
use crate::deadline;
use mcpd_common::exit_code::Severity;
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(10);
const TERM: Duration = Duration::from_secs(20);

fn times(after_grace: AfterGrace, now: Instant) -> StopTimes {
    StopTimes { grace_until: now + GRACE, term: TERM, linger: Duration::ZERO, after_grace }
}

fn descendant() -> ProcessInfo {
    ProcessInfo {
        pid: mcpd_common::ids::Pid::new(4711).expect("positive"),
        ppid: 1,
        pgid: None,
        state: 'S',
        name: "node".into(),
        command: "node server.js".into(),
        user: "kim".into(),
    }
}

#[test]
fn sigterm_is_the_stop_request_of_a_worker_without_a_route() {
    let now = deadline::now();
    for status in [404, 405, 501] {
        let (mut sequence, action) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
        assert_eq!(action, StopAction::Post);
        let action = sequence.answered(StopResponse::Status(status), now);
        assert_eq!(action, Some(StopAction::Terminate(SignalReason::IsTheRequest)));
        let outcome = sequence.gone(now + GRACE / 2);
        assert_eq!((outcome.departure, outcome.asked), (Departure::Left, Asked::Sigterm));
    }
}

#[test]
fn no_response_or_an_error_response_escalates_at_once() {
    let now = deadline::now();
    for response in
        [StopResponse::Status(500), StopResponse::Status(503), StopResponse::None("refused".into())]
    {
        let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
        assert_eq!(sequence.answered(response, now), Some(StopAction::Terminate(SignalReason::BadAnswer)));
        assert_eq!(sequence.gone(now).departure, Departure::Terminated);
    }
}

#[test]
fn an_exit_during_the_clients_phase_is_not_graceful() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
    assert_eq!(sequence.tick(now + GRACE), None, "no signal before the clients phase is over");
    assert_eq!(sequence.timer(), None);
    assert_eq!(sequence.gone(now + GRACE).departure, Departure::Terminated);
}

/// The monitor of a container exits by itself, after its client.
#[test]
fn descendants_may_linger_if_the_worker_runs_a_container() {
    let now = deadline::now();
    let linger = Duration::from_secs(2);
    let times = StopTimes { linger, ..times(AfterGrace::Hold, now) };
    let (mut sequence, _) = StopSequence::begin(Asked::EndOfInput, times, now);
    assert_eq!(sequence.leader_exited(ExitStatus::Code(0), vec![descendant()], now), None);
    assert_eq!(sequence.timer(), Some(now + linger));
    let outcome = sequence.gone(now);
    assert_eq!((outcome.departure, outcome.outlived.len()), (Departure::Left, 0));
    let action = sequence.tick(now + linger);
    assert_eq!(action, Some(StopAction::Terminate(SignalReason::OutlivedLeader)));
    let outcome = sequence.gone(now + linger);
    assert_eq!((outcome.departure, outcome.outlived.len()), (Departure::Terminated, 1));
    // Without a request nothing lingers: the leader crashed.
    let (_, action) = StopSequence::after_exit(ExitStatus::Code(1), vec![descendant()], times, now);
    assert_eq!(action, Some(StopAction::Terminate(SignalReason::OutlivedLeader)));
}

#[test]
fn sigkill_waits_for_its_phase() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
    let _ = sequence.answered(StopResponse::Status(500), now);
    assert_eq!(sequence.timer(), None, "held until the clients phase is over");
    assert_eq!(sequence.escalate(now + TERM / 2), None, "the time for SIGTERM is not over");
    assert_eq!(sequence.timer(), Some(now + TERM));
    assert_eq!(sequence.tick(now + TERM), Some(StopAction::KillUntilGone(SignalReason::TermOver)));
}

#[test]
fn descendants_that_outlive_their_leader_have_two_seconds() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
    let action = sequence.leader_exited(ExitStatus::Code(0), vec![descendant()], now);
    assert_eq!(action, Some(StopAction::Terminate(SignalReason::OutlivedLeader)));
    assert_eq!(
        sequence.tick(now + ORPHAN_LIMIT),
        Some(StopAction::KillUntilGone(SignalReason::OutlivedLeader))
    );
    let outcome = sequence.gone(now + ORPHAN_LIMIT);
    assert_eq!((outcome.departure, outcome.outlived.len()), (Departure::Killed, 1));
}

#[test]
fn the_time_for_descendants_ends_with_the_time_for_sigterm() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Escalate, now), now);
    assert_eq!(sequence.tick(now + GRACE), Some(StopAction::Terminate(SignalReason::GraceOver)));
    let end = now + GRACE + TERM;
    let _ = sequence.leader_exited(ExitStatus::Code(1), vec![descendant()], end - ORPHAN_LIMIT / 2);
    assert_eq!(sequence.timer(), Some(end));
}

#[test]
fn descendants_that_got_the_stop_request_sigterm_may_outlive_their_leader() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Sigterm, times(AfterGrace::Hold, now), now);
    let _ = sequence.leader_exited(ExitStatus::Signal(15), vec![descendant()], now);
    assert_eq!(sequence.gone(now).departure, Departure::Left);
}

#[test]
fn a_process_that_survives_sigkill_is_given_up_and_counts_as_killed_once_it_is_gone() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Sigterm, times(AfterGrace::Escalate, now), now);
    assert_eq!(sequence.kill_now(now), Some(StopAction::KillUntilGone(SignalReason::Hurried)));
    assert_eq!(sequence.tick(now + KILL_LIMIT), Some(StopAction::GiveUp));
    assert!(sequence.is_given_up());
    assert_eq!(sequence.so_far(now).departure, Departure::Remains);
    assert_eq!(sequence.gone(now).departure, Departure::Killed);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    StopResponse(u16),
    NoResponse,
    LeaderExits(bool),
    Escalate,
    KillAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..25_000).prop_map(Step::Wait),
        (200u16..600).prop_map(Step::StopResponse),
        Just(Step::NoResponse),
        any::<bool>().prop_map(Step::LeaderExits),
        Just(Step::Escalate),
        Just(Step::KillAll),
    ];
    proptest::collection::vec(step, 0..12)
}

proptest! {
    /// After any events, the sequence ends within its limits once it may send signals, and its outcome never
    /// becomes less severe.
    #[test]
    fn every_sequence_ends_and_its_outcome_never_improves(http: bool, hold: bool, steps in steps()) {
        let mut now = deadline::now();
        let asked = if http { Asked::Http } else { Asked::Sigterm };
        let after_grace = if hold { AfterGrace::Hold } else { AfterGrace::Escalate };
        let (mut sequence, _) = StopSequence::begin(asked, times(after_grace, now), now);
        let mut worst = sequence.so_far(now).departure;
        for step in steps {
            let _ = match step {
                Step::Wait(ms) => { now += Duration::from_millis(ms); sequence.tick(now) }
                Step::StopResponse(status) => sequence.answered(StopResponse::Status(status), now),
                Step::NoResponse => sequence.answered(StopResponse::None("refused".into()), now),
                Step::LeaderExits(alone) => {
                    let remaining = if alone { vec![] } else { vec![descendant()] };
                    sequence.leader_exited(ExitStatus::Code(0), remaining, now)
                }
                Step::Escalate => sequence.escalate(now),
                Step::KillAll => sequence.kill_now(now),
            };
            prop_assert!(sequence.so_far(now).departure >= worst);
            worst = sequence.so_far(now).departure;
        }
        let _ = sequence.escalate(now);
        for _ in 0..4 {
            if let Some(due) = sequence.timer() {
                prop_assert!(due <= now + TERM.max(KILL_LIMIT));
                now = now.max(due);
                let _ = sequence.tick(now);
            }
        }
        prop_assert!(sequence.is_given_up(), "the processes never exit, so they are given up: {:?}", sequence);
    }

    /// R-EXIT-1: a worker that needed a signal beyond the stop request is never reported as clean.
    #[test]
    fn the_outcome_is_as_severe_as_the_signals_sent(ms in 0u64..60_000) {
        let start = deadline::now();
        let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Escalate, start), start);
        let mut forced = Severity::Clean;
        let end = start + Duration::from_millis(ms);
        while let Some(due) = sequence.timer().filter(|due| *due <= end) {
            forced = match sequence.tick(due) {
                Some(StopAction::Terminate(_)) => forced.max(Severity::Terminated),
                Some(StopAction::KillUntilGone(_)) => forced.max(Severity::Killed),
                _ => forced,
            };
        }
        let reported = match sequence.gone(end).departure {
            Departure::NotRunning | Departure::Left => Severity::Clean,
            Departure::Terminated => Severity::Terminated,
            Departure::Killed | Departure::Remains => Severity::Killed,
        };
        prop_assert_eq!(reported, forced);
    }
}
