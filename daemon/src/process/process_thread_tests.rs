use std::path::PathBuf;

use super::*;
use crate::supervisor::fake::behaviour::{Behaviour, SignalReaction, ms};
use crate::supervisor::fake::system::{Effect, FakeSystem};

/// The process thread of a system in which the worker `a` and the program `command` behave like this.
fn process_thread_of(
    command: Behaviour,
) -> (FakeSystem, ProcessThread, mpsc::UnboundedReceiver<FamilyChange>) {
    let system = FakeSystem::of(vec![("a".to_owned(), command.clone())]);
    system.add_command("command", command);
    let (process_thread, process_events) = ProcessThread::start_here(system.clone(), system.exited.clone());
    (system, process_thread, process_events)
}

fn spec(slot: Slot) -> LaunchSpec {
    let program = PathBuf::from("command");
    LaunchSpec {
        slot,
        program,
        args: vec![],
        directory: PathBuf::new(),
        env: vec![],
        output: None,
        mcp: None,
    }
}

const WORKER: Slot = Slot(0);

/// Waits until the process thread has performed its commands, and for another second of the paused clock.
async fn settle(process_thread: &ProcessThread) {
    deadline::until(deadline::now() + ms(1000)).await;
    process_thread.ask(ProcessCommand::Remaining).await.expect("a process thread");
}

#[tokio::test(start_paused = true)]
async fn a_helper_returns_its_exit_status_as_soon_as_it_exits() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour::exits_after(ms(300), ExitStatus::Code(7)));
    let result = process_thread.run(spec, Deadline::after(ms(1000))).await;
    assert_eq!(result, Ok(ExitStatus::Code(7)));
    assert_eq!(system.now().as_millis(), 300, "at the time of the exit");
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_can_t_be_started_reports_why() {
    let (_system, process_thread, _events) =
        process_thread_of(Behaviour { fails_to_start: true, ..Behaviour::exits_on_request() });
    let result = process_thread.run(spec, Deadline::after(ms(1000))).await;
    assert_eq!(result, Err("can't start command".to_owned()));
}

/// It is reported and killed, though its caller would wait longer.
#[tokio::test(start_paused = true)]
async fn a_helper_whose_start_hangs_is_killed() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour { start_hangs: true, ..Behaviour::ignores_request() });
    let result = process_thread.run(spec, Deadline::after(ms(60_000))).await;
    assert_eq!(result, Err("does not respond".to_owned()));
    assert_eq!(system.living(), 0);
    assert!(system.now() < ms(11_000), "{:?}", system.now());
}

/// A hanging start delays nothing else, and is reported once.
#[tokio::test(start_paused = true)]
async fn a_start_that_hangs_is_reported_and_belongs_to_its_slot() {
    let hanging = Behaviour { start_hangs: true, ..Behaviour::ignores_request() }
        .with_leader(SignalReaction::UNKILLABLE);
    let (system, process_thread, mut process_events) = process_thread_of(hanging);
    system.add_command("command", Behaviour::exits_after(ms(1), ExitStatus::Code(0)));
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    let helper = process_thread.run(spec, Deadline::after(ms(1000))).await;
    assert_eq!(helper, Ok(ExitStatus::Code(0)));
    let event = process_events.recv().await;
    assert!(matches!(event, Some(FamilyChange::StartHangs { slot: WORKER, .. })), "{event:?}");
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    let event = process_events.recv().await;
    assert!(matches!(event, Some(FamilyChange::NotStarted { slot: WORKER, .. })), "{event:?}");
    assert_eq!(process_thread.ask(ProcessCommand::Remaining).await.expect("a process thread").len(), 1);
}

/// R-SHUT-1: with its descendants.
#[tokio::test(start_paused = true)]
async fn a_helper_that_exceeds_its_deadline_is_killed() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour::ignores_request().with_descendant(SignalReaction::IGNORES_SIGTERM));
    let result = process_thread.run(spec, Deadline::after(ms(1000))).await;
    assert_eq!(result, Err("not done in time".to_owned()));
    settle(&process_thread).await;
    assert_eq!(system.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_helper_whose_caller_stopped_waiting_is_killed() {
    let (system, process_thread, _events) = process_thread_of(Behaviour::ignores_request());
    let running = process_thread.run(spec, Deadline::after(ms(10_000)));
    assert!(Deadline::after(ms(500)).wait(running).await.is_err());
    settle(&process_thread).await;
    assert_eq!(system.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn descendants_of_a_helper_are_killed_at_once() {
    let behaviour =
        Behaviour::exits_after(ms(10), ExitStatus::Code(0)).with_descendant(SignalReaction::IGNORES_SIGTERM);
    let (system, process_thread, _events) = process_thread_of(behaviour);
    let result = process_thread.run(spec, Deadline::after(ms(1000))).await;
    assert_eq!((result, system.living()), (Ok(ExitStatus::Code(0)), 0));
    assert!(system.now() < ms(100));
}

#[tokio::test(start_paused = true)]
async fn the_supervisor_gets_no_events_of_helpers() {
    let (_system, process_thread, mut process_events) =
        process_thread_of(Behaviour::exits_after(ms(1), ExitStatus::Code(0)));
    process_thread.run(spec, Deadline::after(ms(1000))).await.expect("it runs");
    assert!(process_events.try_recv().is_err());
}

/// More helpers than there are slots for them, two of them at the same time.
#[tokio::test(start_paused = true)]
async fn helpers_share_no_slot_with_each_other_or_with_workers() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour::exits_after(ms(1), ExitStatus::Code(0)));
    for _ in 0..3000 {
        let limit = Deadline::after(ms(1000));
        let (one, other) = tokio::join!(process_thread.run(spec, limit), process_thread.run(spec, limit));
        assert_eq!((one, other), (Ok(ExitStatus::Code(0)), Ok(ExitStatus::Code(0))));
    }
    assert!(system.helpers().iter().all(|slot| *slot >= Slot::FIRST_HELPER));
}

/// R-SHUT-2.
#[tokio::test(start_paused = true)]
async fn the_exit_of_a_leader_is_reported_before_the_end_of_its_family() {
    let slow = SignalReaction { on_term: Some(ms(500)), ..SignalReaction::EXITS };
    let behaviour = Behaviour::exits_after(ms(100), ExitStatus::Code(1)).with_descendant(slow);
    let (_system, process_thread, mut process_events) = process_thread_of(behaviour);
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    assert!(matches!(process_events.recv().await, Some(FamilyChange::Started { slot: WORKER, .. })));
    let exited = process_events.recv().await;
    let Some(FamilyChange::LeaderExited { slot: WORKER, exit, remaining }) = exited else {
        panic!("{exited:?}");
    };
    assert_eq!((exit, remaining.len()), (ExitStatus::Code(1), 1));
    process_thread.send(ProcessCommand::Terminate(WORKER));
    assert!(matches!(process_events.recv().await, Some(FamilyChange::Gone { slot: WORKER })));
}

#[tokio::test(start_paused = true)]
async fn killing_one_family_does_not_affect_others() {
    let behaviours = ["a", "b"].map(|name| (name.to_owned(), Behaviour::ignores_request()));
    let system = FakeSystem::of(behaviours.into());
    let (process_thread, _events) = ProcessThread::start_here(system.clone(), system.exited.clone());
    process_thread.send(ProcessCommand::Spawn(spec(Slot(0))));
    process_thread.send(ProcessCommand::Spawn(spec(Slot(1))));
    process_thread.send(ProcessCommand::KillUntilGone(Slot(0)));
    settle(&process_thread).await;
    assert_eq!(system.effects("a"), [Effect::Spawned, Effect::Killed, Effect::Gone]);
    assert_eq!(system.effects("b"), [Effect::Spawned]);
}

/// The family exits while the command to kill it is on its way, and the slot gets another family.
#[tokio::test(start_paused = true)]
async fn a_late_kill_does_not_hit_the_next_family() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour::exits_after(ms(100), ExitStatus::Code(1)));
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    settle(&process_thread).await;
    system.set_behaviour("a", Behaviour::ignores_request());
    process_thread.send(ProcessCommand::KillUntilGone(WORKER));
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    settle(&process_thread).await;
    assert_eq!(system.effects("a"), [Effect::Spawned, Effect::Gone, Effect::Spawned]);
}

#[tokio::test(start_paused = true)]
async fn stop_killing_ends_the_attempts_to_kill() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour::ignores_request().with_leader(SignalReaction::UNKILLABLE));
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    process_thread.send(ProcessCommand::KillUntilGone(WORKER));
    settle(&process_thread).await;
    process_thread.send(ProcessCommand::StopKilling(WORKER));
    assert_eq!(process_thread.ask(ProcessCommand::Remaining).await.expect("a process thread").len(), 1);
    assert!(
        matches!(process_thread.ask(ProcessCommand::Prove).await, Ok(DescendantProof::Doubted(_))),
        "a process lives"
    );
    let polls = system.polls();
    settle(&process_thread).await;
    assert!(system.polls() - polls < 10, "it waits for events instead of polling");
}

/// R-CONT-2: workers, helpers and strays; there is a proof only when all of them are gone.
#[tokio::test(start_paused = true)]
async fn killing_all_leaves_no_process() {
    let (system, process_thread, _events) =
        process_thread_of(Behaviour::ignores_request().with_descendant(SignalReaction::IGNORES_SIGTERM));
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    process_thread.send(ProcessCommand::Spawn(spec(Slot::FIRST_HELPER)));
    system.add_stray(SignalReaction { on_term: None, on_kill: Some(ms(700)) }, 'S');
    assert!(matches!(process_thread.ask(ProcessCommand::Prove).await, Ok(DescendantProof::Doubted(_))));
    process_thread.send(ProcessCommand::KillAllUntilGone);
    settle(&process_thread).await;
    assert_eq!(system.living(), 0);
    assert!(matches!(process_thread.ask(ProcessCommand::Prove).await, Ok(DescendantProof::Proved(_))));
}

/// R-CONT-3.
#[tokio::test(start_paused = true)]
async fn descendants_are_counted_by_leader() {
    let behaviour = Behaviour::ignores_request()
        .with_descendant(SignalReaction::EXITS)
        .with_descendant(SignalReaction::EXITS);
    let (_system, process_thread, mut process_events) = process_thread_of(behaviour);
    process_thread.send(ProcessCommand::Spawn(spec(WORKER)));
    let Some(FamilyChange::Started { leader, .. }) = process_events.recv().await else {
        panic!("not started")
    };
    assert_eq!(process_thread.ask(ProcessCommand::Descendants).await, Ok(vec![(leader.pid, 2)]));
}
