use super::health::LIVENESS_INTERVAL;
use super::*;
use crate::deadline;
use crate::supervisor::stop_sequence::{SignalReason, StopResponse};
use proptest::prelude::*;

fn policy(restart: RestartPolicy) -> Policy {
    Policy {
        restart,
        restart_unhealthy: false,
        permanent_failure: None,
        hint: None,
        ready_within: Duration::from_secs(120),
        stop_request: Asked::Http,
        graceful: Duration::from_secs(10),
        term: Duration::from_secs(20),
        linger: Duration::ZERO,
    }
}

fn probed(is_alive: bool, busy: bool) -> WorkerEvent {
    let not_ready = || ProbeResult::NotReady("nothing listens on 9000 yet".to_owned());
    WorkerEvent::Probed { result: if is_alive { ProbeResult::Alive } else { not_ready() }, busy }
}

fn running(policy: Policy, now: Instant) -> Machine {
    let mut machine = Machine::new(policy, 1);
    assert_eq!(machine.on(WorkerEvent::Start, now), vec![Action::Spawn]);
    machine
}

fn exited(exit: ExitStatus) -> WorkerEvent {
    WorkerEvent::LeaderExited { exit, remaining: vec![] }
}

/// R-SUP-2: readiness comes from the probe, not from the pid.
#[test]
fn a_worker_is_ready_when_its_probe_succeeds() {
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    assert_eq!(machine.state(), WorkerState::Starting);
    assert!(machine.on(probed(false, false), now).is_empty());
    assert_eq!(machine.state(), WorkerState::Starting);
    assert!(machine.on(probed(true, false), now).is_empty());
    assert_eq!(machine.state(), WorkerState::Ready);
    assert_eq!(machine.timer(), Some(deadline::next_beat(now, LIVENESS_INTERVAL)));
}

/// R-SUP-2: only failures in a row count.
#[test]
fn three_failed_probes_make_a_worker_unhealthy_and_a_successful_one_makes_it_ready() {
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    for alive in [true, false, false, true, false, false] {
        assert!(machine.on(probed(alive, false), now).is_empty());
        assert_eq!(machine.state(), WorkerState::Ready);
    }
    assert!(machine.on(probed(false, false), now).is_empty());
    assert_eq!(machine.state(), WorkerState::Unhealthy);
    assert!(machine.on(probed(true, false), now).is_empty());
    assert_eq!(machine.state(), WorkerState::Ready);
}

#[test]
fn an_unhealthy_worker_is_restarted_only_if_configured() {
    let now = deadline::now();
    let unhealthy = Policy { restart_unhealthy: true, ..policy(RestartPolicy::Always) };
    let mut machine = running(unhealthy, now);
    let _ = machine.on(probed(true, false), now);
    let actions: Vec<_> = (0..3).flat_map(|_| machine.on(probed(false, false), now)).collect();
    assert_eq!(actions, vec![Action::Stop(StopAction::Post)]);
    assert_eq!(machine.state(), WorkerState::Stopping);
}

/// R-SUP-2.
#[test]
fn an_unhealthy_worker_is_not_restarted_while_requests_are_in_flight() {
    let now = deadline::now();
    let unhealthy = Policy { restart_unhealthy: true, ..policy(RestartPolicy::Always) };
    let mut machine = running(unhealthy, now);
    let _ = machine.on(probed(true, false), now);
    for _ in 0..5 {
        assert!(machine.on(probed(false, true), now).is_empty());
    }
    assert_eq!(machine.state(), WorkerState::Unhealthy);
    let actions = machine.on(probed(false, false), now);
    assert_eq!(actions, vec![Action::Stop(StopAction::Post)]);
}

/// R-SHUT-8: the exit comes after the shutdown request and before the worker's stop request.
#[test]
fn a_worker_that_exits_after_the_shutdown_request_is_not_restarted() {
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    assert_eq!(machine.on(WorkerEvent::DisableRestarts, now), vec![]);
    let _ = machine.on(exited(ExitStatus::Code(1)), now);
    let _ = machine.on(WorkerEvent::Gone, now);
    assert_eq!((machine.state(), machine.timer()), (WorkerState::Stopped, None));
    assert_eq!(machine.on(WorkerEvent::Start, now), vec![], "not even on request");

    let mut waiting = running(policy(RestartPolicy::Always), now);
    let _ = waiting.on(exited(ExitStatus::Code(1)), now);
    let _ = waiting.on(WorkerEvent::Gone, now);
    assert_eq!(waiting.state(), WorkerState::BackingOff);
    let _ = waiting.on(WorkerEvent::DisableRestarts, now);
    assert_eq!((waiting.state(), waiting.timer()), (WorkerState::Stopped, None));
}

/// R-SUP-8: only a start that takes long shows why, and only until it is over.
#[test]
fn a_worker_that_is_slow_to_start_shows_why() {
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    let _ = machine.on(probed(false, false), now + Duration::from_secs(4));
    assert_eq!(machine.reason(), None);
    let _ = machine.on(probed(false, false), now + Duration::from_secs(5));
    assert_eq!(machine.reason(), Some("nothing listens on 9000 yet"));
    let _ = machine.on(probed(true, false), now + Duration::from_secs(6));
    assert_eq!(machine.reason(), None);
}

/// R-SUP-8: `ready_within` ends the start, also while a probe hangs, and the next start follows.
#[test]
fn a_start_that_never_becomes_ready_ends() {
    let mut now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    now += LIVENESS_INTERVAL;
    assert_eq!(machine.on(WorkerEvent::Timer, now), vec![Action::Probe]);
    let _ = machine.on(probed(false, false), now);
    now += Duration::from_secs(120);
    let terminate = StopAction::Terminate(SignalReason::IsTheRequest);
    assert_eq!(machine.on(WorkerEvent::Timer, now), vec![Action::Stop(terminate)]);
    let expected = "not ready within 120 s (ready_within): nothing listens on 9000 yet";
    assert_eq!((machine.state(), machine.reason()), (WorkerState::Stopping, Some(expected)));
    let _ = machine.on(exited(ExitStatus::Signal(15)), now);
    let _ = machine.on(WorkerEvent::Gone, now);
    assert_eq!((machine.state(), machine.reason()), (WorkerState::BackingOff, Some(expected)));
}

/// What people get wrong at first is in the reason of the start that fails.
#[test]
fn a_start_that_fails_names_what_is_probably_wrong() {
    let now = deadline::now();
    for (hint, exit, expected) in [
        (None, ExitStatus::Code(0), "stdio"),
        (None, ExitStatus::Code(1), "exit 1"),
        (Some("write {port}"), ExitStatus::Code(1), "exit 1 before it was ready; write {port}"),
    ] {
        let policy = Policy { hint: hint.map(str::to_owned), ..policy(RestartPolicy::Always) };
        let mut machine = running(policy.clone(), now);
        let _ = machine.on(exited(exit), now);
        let reason = machine.reason().unwrap_or_default();
        assert!(reason.contains(expected), "{reason}");

        let mut was_ready = running(policy, now);
        let _ = was_ready.on(probed(true, false), now);
        let _ = was_ready.on(exited(exit), now);
        assert_eq!(was_ready.reason(), Some(exit.to_string().as_str()));
    }
}

/// A status that says "this will never work" ends the restarts at once.
#[test]
fn a_permanent_failure_is_not_restarted() {
    let now = deadline::now();
    let permanent = ExitStatus::Code(78);
    let mut machine =
        running(Policy { permanent_failure: Some(permanent), ..policy(RestartPolicy::Always) }, now);
    let _ = machine.on(exited(permanent), now);
    let _ = machine.on(WorkerEvent::Gone, now);
    assert_eq!((machine.state(), machine.timer()), (WorkerState::Failed, None));
}

/// R-SUP-7: whenever it is found, and with requests in flight.
#[test]
fn a_worker_whose_port_another_process_took_is_started_again() {
    let foreign = || {
        let holder = "127.0.0.1:9000 is held by nc".to_owned();
        WorkerEvent::Probed { result: ProbeResult::ForeignListener(holder), busy: true }
    };
    let now = deadline::now();
    for was_ready in [false, true] {
        let mut machine = running(policy(RestartPolicy::Always), now);
        if was_ready {
            let _ = machine.on(probed(true, false), now);
        }
        assert_eq!(machine.on(foreign(), now).len(), 1);
        let _ = machine.on(exited(ExitStatus::Signal(15)), now);
        let _ = machine.on(WorkerEvent::Gone, now);
        assert_eq!(machine.state(), WorkerState::BackingOff);
        assert_eq!(machine.reason(), Some("127.0.0.1:9000 is held by nc"));
    }
}

/// The process exists: it is stopped like one that runs, and the worker started again.
#[test]
fn a_worker_whose_start_hangs_is_stopped_and_started_again() {
    let hangs = || WorkerEvent::StartHangs { reason: "/srv does not respond".to_owned() };
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    let terminate = Action::Stop(StopAction::Terminate(SignalReason::IsTheRequest));
    assert_eq!(machine.on(hangs(), now), vec![terminate]);
    assert_eq!(machine.state(), WorkerState::Stopping);
    assert_eq!(machine.on(hangs(), now), vec![], "it is being stopped already");
    let _ = machine.on(exited(ExitStatus::Signal(15)), now);
    let _ = machine.on(WorkerEvent::Gone, now);
    assert_eq!(machine.state(), WorkerState::BackingOff);
    assert_eq!(machine.reason(), Some("/srv does not respond"));
}

/// R-SUP-3: ten crashes soon after the start, then `failed` until `mcpctl restart`.
#[test]
fn a_crash_loop_ends_in_failed_and_restart_tries_again() {
    let mut now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    for crash in 1..=10 {
        let _ = machine.on(exited(ExitStatus::Code(1)), now);
        let _ = machine.on(WorkerEvent::Gone, now);
        let expected = if crash < 10 { WorkerState::BackingOff } else { WorkerState::Failed };
        assert_eq!(machine.state(), expected, "crash {crash}");
        if let Some(due) = machine.timer() {
            now = due;
            assert_eq!(machine.on(WorkerEvent::Timer, now), vec![Action::Spawn]);
        }
    }
    assert!(machine.reason().is_some_and(|reason| reason.contains("exit 1")), "{:?}", machine.reason());
    assert_eq!(machine.on(WorkerEvent::Restart, now), vec![Action::Spawn]);
}

#[test]
fn restart_policies_depend_on_the_exit_status() {
    use RestartPolicy::{Always, Never, OnFailure};
    let cases = [
        (Always, ExitStatus::Code(0), WorkerState::BackingOff),
        (OnFailure, ExitStatus::Code(0), WorkerState::Stopped),
        (OnFailure, ExitStatus::Code(1), WorkerState::BackingOff),
        (OnFailure, ExitStatus::Signal(9), WorkerState::BackingOff),
        (Never, ExitStatus::Code(0), WorkerState::Stopped),
        (Never, ExitStatus::Code(3), WorkerState::Failed),
    ];
    for (restart, exit, expected) in cases {
        let now = deadline::now();
        let mut machine = running(policy(restart), now);
        let _ = machine.on(exited(exit), now);
        let _ = machine.on(WorkerEvent::Gone, now);
        assert_eq!(machine.state(), expected, "{restart:?} {exit}");
    }
}

#[test]
fn a_worker_that_was_never_ready_is_stopped_by_sigterm() {
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    let actions = machine.on(WorkerEvent::Stop, now);
    assert_eq!(actions, vec![Action::Stop(StopAction::Terminate(SignalReason::IsTheRequest))]);
}

#[test]
fn a_restart_waits_until_the_old_family_is_gone() {
    let now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    assert!(!machine.on(WorkerEvent::Restart, now).contains(&Action::Spawn));
    assert!(machine.on(exited(ExitStatus::Code(0)), now).is_empty());
    assert!(machine.on(WorkerEvent::Gone, now).contains(&Action::Spawn));
}

#[test]
fn a_worker_whose_processes_survive_sigkill_is_failed() {
    let mut now = deadline::now();
    let mut machine = running(policy(RestartPolicy::Always), now);
    let _ = machine.on(WorkerEvent::Stop, now);
    while let Some(due) = machine.timer() {
        now = due;
        let _ = machine.on(WorkerEvent::Timer, now);
    }
    assert_eq!(machine.state(), WorkerState::Failed);
}

fn event() -> impl Strategy<Value = WorkerEvent> {
    let exit = prop_oneof![(0..3i32).prop_map(ExitStatus::Code), Just(ExitStatus::Signal(9))];
    prop_oneof![
        Just(WorkerEvent::Start),
        Just(WorkerEvent::Stop),
        Just(WorkerEvent::Restart),
        Just(WorkerEvent::Escalate),
        Just(WorkerEvent::KillAll),
        Just(WorkerEvent::DisableRestarts),
        Just(WorkerEvent::SpawnFailed { reason: "no".into() }),
        any::<(bool, bool)>().prop_map(|(alive, busy)| probed(alive, busy)),
        (200u16..600).prop_map(|status| WorkerEvent::Answered(StopResponse::Status(status))),
        exit.prop_map(exited),
        Just(WorkerEvent::Gone),
        Just(WorkerEvent::Timer),
    ]
}

fn timeline() -> impl Strategy<Value = Vec<(u64, WorkerEvent)>> {
    proptest::collection::vec((0u64..40_000, event()), 0..40)
}

fn restart_policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// R-SUP-4: nothing is started once the shutdown has begun, whatever events come before and after the
    /// request, in any order.
    #[test]
    fn nothing_is_started_while_shutting_down(
        restart in restart_policy(),
        restart_unhealthy: bool,
        before in timeline(),
        after in timeline(),
    ) {
        let mut now = deadline::now();
        let mut machine = Machine::new(Policy { restart_unhealthy, ..policy(restart) }, 1);
        for (ms, event) in before {
            now += Duration::from_millis(ms);
            let _ = machine.on(event, now);
        }
        let shutdown = WorkerEvent::Shutdown { grace_until: now + Duration::from_secs(10) };
        prop_assert!(!machine.on(shutdown, now).contains(&Action::Spawn));
        for (ms, event) in after {
            now += Duration::from_millis(ms);
            prop_assert!(!machine.on(event, now).contains(&Action::Spawn));
            prop_assert!(!matches!(machine.state(), WorkerState::Starting | WorkerState::BackingOff));
        }
    }

    /// No second process is spawned before the first is reported as gone or as failed to start.
    #[test]
    fn there_is_never_a_second_process(restart in restart_policy(), events in timeline()) {
        let mut now = deadline::now();
        let mut machine = Machine::new(policy(restart), 1);
        let mut processes = 0u32;
        for (ms, event) in events {
            now += Duration::from_millis(ms);
            // The process thread reports exits and failures only if there is a process.
            let about_a_process =
                matches!(event, WorkerEvent::LeaderExited { .. } | WorkerEvent::Gone | WorkerEvent::SpawnFailed { .. });
            if about_a_process && processes == 0 || machine.state() == WorkerState::Failed {
                continue;
            }
            if matches!(event, WorkerEvent::Gone) && machine.stop_sequence().is_none() {
                continue;
            }
            if matches!(event, WorkerEvent::Gone | WorkerEvent::SpawnFailed { .. }) {
                processes -= 1;
            }
            let spawned = machine.on(event, now).iter().filter(|action| **action == Action::Spawn).count();
            processes += u32::try_from(spawned).expect("few");
            prop_assert!(processes <= 1);
        }
    }
}
