use super::*;
use crate::deadline;
use proptest::prelude::*;

fn idle(began: Instant, seconds: u64) -> Occupation {
    Occupation::Idle { since: began + Duration::from_secs(seconds) }
}

#[test]
fn the_process_that_is_idle_longest_makes_room() {
    let now = deadline::now();
    let occupied = [(1, Occupation::Busy), (2, idle(now, 9)), (3, idle(now, 5)), (4, idle(now, 7))];
    assert_eq!(admit(&occupied, 5, 0), Admission::Start);
    assert_eq!(admit(&occupied, 4, 0), Admission::End(3));
    assert_eq!(admit(&[(1, Occupation::Busy)], 1, 0), Admission::Full);
}

#[test]
fn each_session_that_waits_has_a_place_of_its_own_to_wait_for() {
    let now = deadline::now();
    let occupied = [(1, Occupation::Ending), (2, idle(now, 1)), (3, Occupation::Busy)];
    assert_eq!(admit(&occupied, 3, 0), Admission::Wait);
    assert_eq!(admit(&occupied, 3, 1), Admission::End(2));
    let occupied = [(1, Occupation::Ending), (2, Occupation::Ending), (3, Occupation::Busy)];
    assert_eq!(admit(&occupied, 3, 1), Admission::Wait);
    assert_eq!(admit(&occupied, 3, 2), Admission::Full);
    assert_eq!(admit(&[(1, Occupation::Busy)], 2, 1), Admission::Full, "the free place is promised");
}

#[test]
fn quick_exits_delay_the_next_start_until_one_lives_long() {
    let now = deadline::now();
    let mut delay = StartDelay::default();
    assert_eq!(delay.until(now), None);
    let waits: Vec<_> = (0..20)
        .map(|_| {
            delay.exited(Duration::from_secs(1), now);
            delay.until(now).expect("a wait") - now
        })
        .collect();
    assert_eq!(waits[..3], [200, 400, 800].map(Duration::from_millis));
    assert!(waits.is_sorted() && waits.last() == Some(&LONGEST_WAIT));
    delay.exited(QUICK_EXIT, now);
    assert_eq!(delay.until(now), None);
}

#[derive(Clone, Debug)]
enum Step {
    /// A session needs a process.
    Ask,
    /// A process, by its position, gets or loses its last request.
    Toggle(usize),
    /// A process exits, asked or not.
    Exit(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Ask),
        2 => any::<usize>().prop_map(Step::Toggle),
        2 => any::<usize>().prop_map(Step::Exit),
    ]
}

/// What a listener does with the decisions.
#[derive(Default)]
struct World {
    occupied: Vec<(ProcessNumber, Occupation)>,
    waiting: usize,
    last: ProcessNumber,
}

impl World {
    /// Asks for the session with `ahead` others before it; `true`: it got a process or waits.
    fn ask(&mut self, places: usize, ahead: usize) -> Admission {
        let admission = admit(&self.occupied, places, ahead);
        match admission {
            Admission::Start => {
                self.last += 1;
                self.occupied.push((self.last, Occupation::Busy));
            }
            Admission::End(number) => {
                let ended = self.occupied.iter_mut().find(|(it, _)| *it == number).expect("it exists");
                assert!(matches!(ended.1, Occupation::Idle { .. }), "only an idle one ends");
                ended.1 = Occupation::Ending;
            }
            Admission::Wait | Admission::Full => {}
        }
        admission
    }
}

proptest! {
    /// At most `places` processes, whatever happens; no session waits without a place that becomes free for it, and none
    /// is refused while a process is idle.
    #[test]
    fn the_limit_holds_and_no_session_waits_for_nothing(places in 1usize..5, steps in proptest::collection::vec(step(), 0..80)) {
        let mut world = World::default();
        let mut now = deadline::now();
        for step in steps {
            now += Duration::from_secs(1);
            match step {
                Step::Ask => {
                    let ahead = world.waiting;
                    let has_idle = world.occupied.iter().any(|(_, it)| matches!(it, Occupation::Idle { .. }));
                    match world.ask(places, ahead) {
                        Admission::Start => {}
                        Admission::End(_) | Admission::Wait => world.waiting += 1,
                        Admission::Full => prop_assert!(!has_idle),
                    }
                }
                Step::Toggle(at) if !world.occupied.is_empty() => {
                    let at = at % world.occupied.len();
                    let it = &mut world.occupied[at].1;
                    *it = match *it {
                        Occupation::Busy => Occupation::Idle { since: now },
                        Occupation::Idle { .. } => Occupation::Busy,
                        Occupation::Ending => Occupation::Ending,
                    };
                }
                Step::Exit(at) if !world.occupied.is_empty() => {
                    let at = at % world.occupied.len();
                    world.occupied.remove(at);
                    // Those that wait ask again, the first one first.
                    let mut ahead = 0;
                    for _ in 0..world.waiting {
                        match world.ask(places, ahead) {
                            Admission::Start => world.waiting -= 1,
                            Admission::End(_) | Admission::Wait => ahead += 1,
                            Admission::Full => prop_assert!(false, "it waited for a place that is not coming"),
                        }
                    }
                }
                Step::Toggle(_) | Step::Exit(_) => {}
            }
            prop_assert!(world.occupied.len() <= places);
            let ending = world.occupied.iter().filter(|(_, it)| *it == Occupation::Ending).count();
            let free = places - world.occupied.len();
            prop_assert!(world.waiting <= ending + free);
        }
    }
}
