use std::path::PathBuf;

use super::*;
use crate::supervisor::fake::script::{Nature, Script, ms};
use crate::supervisor::fake::world::{Deed, World};

/// The keeper of a world in which the program `command` behaves like this.
fn keeper_of(command: Script) -> (World, Keeper, mpsc::UnboundedReceiver<News>) {
    let world = World::of(vec![("a".to_owned(), command.clone())]);
    world.add_command("command", command);
    let (keeper, news) = Keeper::start_here(world.clone(), world.exited.clone());
    (world, keeper, news)
}

fn order(slot: Slot) -> Order {
    let program = PathBuf::from("command");
    Order { slot, program, args: vec![], directory: PathBuf::new(), env: vec![], output: None }
}

const WORKER: Slot = Slot(0);

/// Lets the keeper do what it was told, and what follows within a second.
async fn settle(keeper: &Keeper) {
    deadline::until(deadline::now() + ms(1000)).await;
    keeper.ask(Command::Left).await.expect("a keeper");
}

#[tokio::test(start_paused = true)]
async fn a_helper_is_over_when_it_has_exited() {
    let (world, keeper, _news) = keeper_of(Script::ending(ms(300), ExitStatus::Code(7)));
    let result = keeper.run(order, Deadline::after(ms(1000))).await;
    assert_eq!(result, Ok(ExitStatus::Code(7)));
    assert_eq!(world.now().as_millis(), 300, "noticed when it happened");
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_can_t_be_started_says_why() {
    let (_world, keeper, _news) = keeper_of(Script { refuses_to_start: true, ..Script::polite() });
    let result = keeper.run(order, Deadline::after(ms(1000))).await;
    assert_eq!(result, Err("can't start command".to_owned()));
}

/// R-SHUT-1: and what it started goes with it.
#[tokio::test(start_paused = true)]
async fn a_helper_that_takes_too_long_is_killed() {
    let (world, keeper, _news) = keeper_of(Script::deaf().with_descendant(Nature::STUBBORN));
    let result = keeper.run(order, Deadline::after(ms(1000))).await;
    assert_eq!(result, Err("not done in time".to_owned()));
    settle(&keeper).await;
    assert_eq!(world.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_helper_that_nobody_waits_for_any_more_is_killed() {
    let (world, keeper, _news) = keeper_of(Script::deaf());
    let running = keeper.run(order, Deadline::after(ms(10_000)));
    assert!(Deadline::after(ms(500)).wait(running).await.is_err());
    settle(&keeper).await;
    assert_eq!(world.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_helper_leaves_behind_is_hunted_at_once() {
    let script = Script::ending(ms(10), ExitStatus::Code(0)).with_descendant(Nature::STUBBORN);
    let (world, keeper, _news) = keeper_of(script);
    let result = keeper.run(order, Deadline::after(ms(1000))).await;
    assert_eq!((result, world.living()), (Ok(ExitStatus::Code(0)), 0));
    assert!(world.now() < ms(100));
}

#[tokio::test(start_paused = true)]
async fn nobody_else_hears_of_helpers() {
    let (_world, keeper, mut news) = keeper_of(Script::ending(ms(1), ExitStatus::Code(0)));
    keeper.run(order, Deadline::after(ms(1000))).await.expect("it runs");
    assert!(news.try_recv().is_err());
}

/// More helpers than there are numbers for them, two of them at the same time.
#[tokio::test(start_paused = true)]
async fn helpers_never_share_a_slot_and_never_take_a_worker_s() {
    let (world, keeper, _news) = keeper_of(Script::ending(ms(1), ExitStatus::Code(0)));
    for _ in 0..3000 {
        let limit = Deadline::after(ms(1000));
        let (one, other) = tokio::join!(keeper.run(order, limit), keeper.run(order, limit));
        assert_eq!((one, other), (Ok(ExitStatus::Code(0)), Ok(ExitStatus::Code(0))));
    }
    assert!(world.helpers().iter().all(|slot| *slot >= Slot::FIRST_HELPER));
}

/// R-SHUT-2: a leader's exit is told when it happens, its end when all of it is gone.
#[tokio::test(start_paused = true)]
async fn a_leader_s_exit_is_told_before_its_family_s_end() {
    let patient = Nature { on_term: Some(ms(500)), ..Nature::MILD };
    let script = Script::ending(ms(100), ExitStatus::Code(1)).with_descendant(patient);
    let (_world, keeper, mut news) = keeper_of(script);
    keeper.tell(Command::Spawn(order(WORKER)));
    assert!(matches!(news.recv().await, Some(News::Spawned(WORKER, Ok(_)))));
    let exited = news.recv().await;
    let Some(News::Changed(Change::LeaderExited { slot: WORKER, exit, remaining })) = exited else {
        panic!("{exited:?}");
    };
    assert_eq!((exit, remaining.len()), (ExitStatus::Code(1), 1));
    keeper.tell(Command::Terminate(WORKER));
    assert!(matches!(news.recv().await, Some(News::Changed(Change::Gone { slot: WORKER }))));
}

#[tokio::test(start_paused = true)]
async fn hunting_one_leaves_the_others_alone() {
    let scripts = ["a", "b"].map(|name| (name.to_owned(), Script::deaf()));
    let world = World::of(scripts.into());
    let (keeper, _news) = Keeper::start_here(world.clone(), world.exited.clone());
    keeper.tell(Command::Spawn(order(Slot(0))));
    keeper.tell(Command::Spawn(order(Slot(1))));
    keeper.tell(Command::Hunt(Slot(0)));
    settle(&keeper).await;
    assert_eq!(world.deeds("a"), [Deed::Spawned, Deed::Killed, Deed::Gone]);
    assert_eq!(world.deeds("b"), [Deed::Spawned]);
}

/// The order to hunt and the end of the hunted cross each other: the next one in this slot is
/// somebody else.
#[tokio::test(start_paused = true)]
async fn a_hunt_that_comes_too_late_does_not_hit_the_next_process() {
    let (world, keeper, _news) = keeper_of(Script::ending(ms(100), ExitStatus::Code(1)));
    keeper.tell(Command::Spawn(order(WORKER)));
    settle(&keeper).await;
    world.rewrite("a", Script::deaf());
    keeper.tell(Command::Hunt(WORKER));
    keeper.tell(Command::Spawn(order(WORKER)));
    settle(&keeper).await;
    assert_eq!(world.deeds("a"), [Deed::Spawned, Deed::Gone, Deed::Spawned]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_not_killed_any_more() {
    let (world, keeper, _news) = keeper_of(Script::deaf().with_leader(Nature::UNKILLABLE));
    keeper.tell(Command::Spawn(order(WORKER)));
    keeper.tell(Command::Hunt(WORKER));
    settle(&keeper).await;
    keeper.tell(Command::Leave(WORKER));
    assert_eq!(keeper.ask(Command::Left).await.expect("a keeper").len(), 1);
    assert!(matches!(keeper.ask(Command::Prove).await, Ok(LastWord::Doubted(_))), "somebody lives");
    let turns = world.turns();
    settle(&keeper).await;
    assert!(world.turns() - turns < 10, "it waits for news again");
}

/// R-CONT-2: workers, helpers and strays alike; the proof comes after the last of them.
#[tokio::test(start_paused = true)]
async fn hunting_all_leaves_nobody() {
    let (world, keeper, _news) = keeper_of(Script::deaf().with_descendant(Nature::STUBBORN));
    keeper.tell(Command::Spawn(order(WORKER)));
    keeper.tell(Command::Spawn(order(Slot::FIRST_HELPER)));
    world.add_stray(Nature { on_term: None, on_kill: Some(ms(700)) }, 'S');
    assert!(matches!(keeper.ask(Command::Prove).await, Ok(LastWord::Doubted(_))));
    keeper.tell(Command::HuntAll);
    settle(&keeper).await;
    assert_eq!(world.living(), 0);
    assert!(matches!(keeper.ask(Command::Prove).await, Ok(LastWord::Proved(_))));
}

/// R-CONT-3.
#[tokio::test(start_paused = true)]
async fn descendants_are_counted_by_leader() {
    let script = Script::deaf().with_descendant(Nature::MILD).with_descendant(Nature::MILD);
    let (_world, keeper, mut news) = keeper_of(script);
    keeper.tell(Command::Spawn(order(WORKER)));
    let Some(News::Spawned(_, Ok(started))) = news.recv().await else { panic!("not started") };
    assert_eq!(keeper.ask(Command::Descendants).await, Ok(vec![(started.pid, 2)]));
}
