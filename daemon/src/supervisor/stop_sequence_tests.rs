use super::*;
use crate::deadline;
use mcpd_common::exit_code::Severity;
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(10);
const TERM: Duration = Duration::from_secs(20);

fn times(after_grace: AfterGrace, now: Instant) -> StopTimes {
    StopTimes { grace_until: now + GRACE, term: TERM, after_grace }
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
        let (mut sequence, act) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
        assert_eq!(act, StopAction::Post);
        let act = sequence.answered(StopResponse::Status(status), now);
        assert_eq!(act, Some(StopAction::Terminate(SignalReason::IsTheRequest)));
        let leave = sequence.gone(now + GRACE / 2);
        assert_eq!((leave.departure, leave.asked), (Departure::Left, Asked::Sigterm));
    }
}

#[test]
fn no_answer_a_refusal_or_an_error_escalates_at_once() {
    let now = deadline::now();
    for answer in [StopResponse::Status(500), StopResponse::Status(503), StopResponse::None("refused".into())]
    {
        let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
        assert_eq!(sequence.answered(answer, now), Some(StopAction::Terminate(SignalReason::BadAnswer)));
        assert_eq!(sequence.gone(now).departure, Departure::Terminated);
    }
}

#[test]
fn an_exit_in_the_clients_phase_is_later_than_the_graceful_time() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
    assert_eq!(sequence.tick(now + GRACE), None, "the clients come first");
    assert_eq!(sequence.timer(), None);
    assert_eq!(sequence.gone(now + GRACE).departure, Departure::Terminated);
}

#[test]
fn sigkill_waits_for_its_phase() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
    let _ = sequence.answered(StopResponse::Status(500), now);
    assert_eq!(sequence.timer(), None, "held until the clients have gone");
    assert_eq!(sequence.escalate(now + TERM / 2), None, "SIGTERM has the rest of its time");
    assert_eq!(sequence.timer(), Some(now + TERM));
    assert_eq!(sequence.tick(now + TERM), Some(StopAction::KillUntilGone(SignalReason::TermOver)));
}

#[test]
fn descendants_that_outlive_their_leader_have_two_seconds() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Hold, now), now);
    let act = sequence.leader_exited(ExitStatus::Code(0), vec![descendant()], now);
    assert_eq!(act, Some(StopAction::Terminate(SignalReason::OutlivedLeader)));
    assert_eq!(
        sequence.tick(now + ORPHAN_LIMIT),
        Some(StopAction::KillUntilGone(SignalReason::OutlivedLeader))
    );
    let leave = sequence.gone(now + ORPHAN_LIMIT);
    assert_eq!((leave.departure, leave.outlived.len()), (Departure::Killed, 1));
}

#[test]
fn descendants_have_no_longer_than_sigterm_has() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Http, times(AfterGrace::Escalate, now), now);
    assert_eq!(sequence.tick(now + GRACE), Some(StopAction::Terminate(SignalReason::GraceOver)));
    let end = now + GRACE + TERM;
    let _ = sequence.leader_exited(ExitStatus::Code(1), vec![descendant()], end - ORPHAN_LIMIT / 2);
    assert_eq!(sequence.timer(), Some(end));
}

#[test]
fn descendants_asked_by_sigterm_like_their_leader_may_follow_it() {
    let now = deadline::now();
    let (mut sequence, _) = StopSequence::begin(Asked::Sigterm, times(AfterGrace::Hold, now), now);
    let _ = sequence.leader_exited(ExitStatus::Signal(15), vec![descendant()], now);
    assert_eq!(sequence.gone(now).departure, Departure::Left);
}

#[test]
fn what_resists_sigkill_is_given_up_and_forgiven_when_it_goes_after_all() {
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
    NoAnswer,
    LeaderExits(bool),
    Escalate,
    KillAll,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0u64..25_000).prop_map(Step::Wait),
        (200u16..600).prop_map(Step::StopResponse),
        Just(Step::NoAnswer),
        any::<bool>().prop_map(Step::LeaderExits),
        Just(Step::Escalate),
        Just(Step::KillAll),
    ];
    proptest::collection::vec(step, 0..12)
}

proptest! {
    /// Whatever happens, once the signal phase has come the sequence ends in bounded time, and its
    /// outcome never gets better while it continues.
    #[test]
    fn every_course_ends_and_never_forgets(http: bool, hold: bool, steps in steps()) {
        let mut now = deadline::now();
        let asked = if http { Asked::Http } else { Asked::Sigterm };
        let after_grace = if hold { AfterGrace::Hold } else { AfterGrace::Escalate };
        let (mut sequence, _) = StopSequence::begin(asked, times(after_grace, now), now);
        let mut needed = sequence.so_far(now).departure;
        for step in steps {
            let _ = match step {
                Step::Wait(ms) => { now += Duration::from_millis(ms); sequence.tick(now) }
                Step::StopResponse(status) => sequence.answered(StopResponse::Status(status), now),
                Step::NoAnswer => sequence.answered(StopResponse::None("refused".into()), now),
                Step::LeaderExits(alone) => {
                    let remaining = if alone { vec![] } else { vec![descendant()] };
                    sequence.leader_exited(ExitStatus::Code(0), remaining, now)
                }
                Step::Escalate => sequence.escalate(now),
                Step::KillAll => sequence.kill_now(now),
            };
            prop_assert!(sequence.so_far(now).departure >= needed);
            needed = sequence.so_far(now).departure;
        }
        let _ = sequence.escalate(now);
        for _ in 0..4 {
            if let Some(due) = sequence.timer() {
                prop_assert!(due <= now + TERM.max(KILL_LIMIT));
                now = now.max(due);
                let _ = sequence.tick(now);
            }
        }
        prop_assert!(sequence.is_given_up(), "nothing answers, so it is given up: {:?}", sequence);
    }

    /// R-EXIT-1: a worker that needed a signal it was not asked by is never called clean.
    #[test]
    fn force_is_never_hidden(ms in 0u64..60_000) {
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
        let said = match sequence.gone(end).departure {
            Departure::NotRunning | Departure::Left => Severity::Clean,
            Departure::Terminated => Severity::Terminated,
            Departure::Killed | Departure::Remains => Severity::Killed,
        };
        prop_assert_eq!(said, forced);
    }
}
