//! Which sessions no client uses any more, because all processes that used them have exited (R-CLIENT-9). Pure.
//!
//! ```text
//!   a process is found at a connection that used the session ----> it uses the session
//!   all of them have exited, no connection is open, unused since --PAUSE--> abandoned
//!   a request after the exit of all of them ----> a process that was never found: the session stays
//! ```

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mcpd_common::ids::WorkerName;
use tokio::time::Instant;

use super::client_process::ClientProcess;

/// From the exit of the last process to the end of its sessions: another process of the same program may go on.
const PAUSE: Duration = Duration::from_secs(3);
/// What a process sent before it exited may be read this long after the exit was noticed.
const LATE: Duration = Duration::from_millis(500);

/// A session by its worker and the id that the client knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    pub worker: WorkerName,
    pub id: String,
}

/// The use of a session at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub last_used: Instant,
    /// Whether a connection that used it is open.
    pub is_connected: bool,
}

/// The processes known to use each session, and when each exited.
#[derive(Debug, Default)]
pub struct Departures {
    users: HashMap<SessionKey, HashMap<ClientProcess, Option<Instant>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    InUse,
    /// Abandoned at this moment, if nothing happens before.
    Pending(Instant),
    Abandoned,
    /// A process that is not known uses it.
    Unknown,
}

impl Departures {
    pub fn used(&mut self, session: SessionKey, process: ClientProcess) {
        self.users.entry(session).or_default().entry(process).or_insert(None);
    }

    pub fn exited(&mut self, process: ClientProcess, now: Instant) {
        for exit in self.users.values_mut().filter_map(|processes| processes.get_mut(&process)) {
            exit.get_or_insert(now);
        }
    }

    /// The processes whose exit matters.
    pub fn running(&self) -> HashSet<ClientProcess> {
        let all = self.users.values().flatten();
        all.filter(|(_, exit)| exit.is_none()).map(|(process, _)| *process).collect()
    }

    /// Takes the sessions that no process uses any more, and returns when to look again. `usage` is `None` for a session that
    /// has ended.
    pub fn take_abandoned(
        &mut self,
        now: Instant,
        usage: impl Fn(&SessionKey) -> Option<Usage>,
    ) -> (Vec<SessionKey>, Option<Instant>) {
        let mut abandoned = vec![];
        let mut next: Option<Instant> = None;
        self.users.retain(|session, processes| {
            let Some(usage) = usage(session) else { return false };
            match verdict(processes, usage, now) {
                Verdict::InUse => true,
                Verdict::Pending(moment) => {
                    next = Some(next.map_or(moment, |next| next.min(moment)));
                    true
                }
                Verdict::Abandoned => {
                    abandoned.push(session.clone());
                    false
                }
                Verdict::Unknown => false,
            }
        });
        (abandoned, next)
    }
}

fn verdict(processes: &HashMap<ClientProcess, Option<Instant>>, usage: Usage, now: Instant) -> Verdict {
    let exits: Option<Vec<Instant>> = processes.values().copied().collect();
    let Some(last_exit) = exits.and_then(|exits| exits.into_iter().max()) else { return Verdict::InUse };
    let due = last_exit + PAUSE;
    if usage.is_connected {
        Verdict::InUse
    } else if usage.last_used > last_exit + LATE {
        Verdict::Unknown
    } else if now < due {
        Verdict::Pending(due)
    } else {
        Verdict::Abandoned
    }
}

#[cfg(test)]
mod tests {
    use mcpd_common::ids::Pid;
    use mcpd_common::os::process::StartTime;
    use proptest::prelude::*;

    use super::*;
    use crate::deadline;

    fn process(number: i32) -> ClientProcess {
        ClientProcess { pid: Pid::new(number).expect("a pid"), start: StartTime(7) }
    }

    fn session(id: &str) -> SessionKey {
        SessionKey { worker: "docs".parse().expect("a name"), id: id.to_owned() }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    struct World {
        departures: Departures,
        began: Instant,
    }

    impl World {
        fn used_by(processes: &[i32]) -> Self {
            let mut departures = Departures::default();
            processes.iter().for_each(|number| departures.used(session("a"), process(*number)));
            Self { departures, began: deadline::now() }
        }

        fn exited(&mut self, number: i32, after: Duration) {
            self.departures.exited(process(number), self.began + after);
        }

        fn abandoned(&mut self, after: Duration, last_used: Duration, is_connected: bool) -> Vec<SessionKey> {
            let usage = Usage { last_used: self.began + last_used, is_connected };
            self.departures.take_abandoned(self.began + after, |_| Some(usage)).0
        }
    }

    #[test]
    fn a_session_is_abandoned_after_the_exit_of_its_process() {
        let mut world = World::used_by(&[1]);
        assert!(world.abandoned(seconds(100), seconds(1), false).is_empty(), "it runs");
        world.exited(1, seconds(100));
        let usage = Usage { last_used: world.began, is_connected: false };
        let (none, next) = world.departures.take_abandoned(world.began + seconds(101), |_| Some(usage));
        assert_eq!((none, next), (vec![], Some(world.began + seconds(103))));
        assert_eq!(world.abandoned(seconds(103), seconds(1), false), [session("a")]);
        assert!(world.abandoned(seconds(104), seconds(1), false).is_empty(), "once");
    }

    #[test]
    fn the_exit_of_one_of_two_processes_changes_nothing() {
        let mut world = World::used_by(&[1, 2]);
        world.exited(1, seconds(1));
        assert!(world.abandoned(seconds(100), seconds(0), false).is_empty());
        assert_eq!(world.departures.running(), HashSet::from([process(2)]));
        world.exited(2, seconds(100));
        assert_eq!(world.abandoned(seconds(103), seconds(0), false), [session("a")]);
    }

    #[test]
    fn a_session_with_an_open_connection_is_in_use() {
        let mut world = World::used_by(&[1]);
        world.exited(1, seconds(1));
        assert!(world.abandoned(seconds(100), seconds(0), true).is_empty());
        assert_eq!(world.abandoned(seconds(101), seconds(0), false), [session("a")]);
    }

    /// A process that was never found used it after the others had exited.
    #[test]
    fn a_session_with_an_unknown_user_stays() {
        let mut world = World::used_by(&[1]);
        world.exited(1, seconds(1));
        assert!(world.abandoned(seconds(100), seconds(50), false).is_empty());
        assert!(world.abandoned(seconds(200), seconds(50), false).is_empty());
        world.departures.used(session("a"), process(2));
        world.exited(2, seconds(300));
        assert_eq!(world.abandoned(seconds(303), seconds(50), false), [session("a")], "it was found later");
    }

    /// What a process sent before it exited.
    #[test]
    fn a_request_right_after_the_exit_is_of_the_process_that_exited() {
        let mut world = World::used_by(&[1]);
        world.exited(1, seconds(1));
        assert_eq!(world.abandoned(seconds(4), Duration::from_millis(1400), false), [session("a")]);
    }

    #[test]
    fn a_session_that_has_ended_is_forgotten() {
        let mut world = World::used_by(&[1]);
        let (none, next) = world.departures.take_abandoned(world.began, |_| None);
        assert!(none.is_empty() && next.is_none() && world.departures.running().is_empty());
    }

    proptest! {
        /// Whatever happens: never while a process that used it runs, a connection is open, or it was used since.
        #[test]
        fn no_session_in_use_is_abandoned(
            exits in proptest::collection::vec(proptest::option::of(0u64..20), 1..4),
            last_used in 0u64..30, now in 0u64..40, is_connected: bool,
        ) {
            let numbers: Vec<_> = (1..).take(exits.len()).collect();
            let mut world = World::used_by(&numbers);
            for (number, exit) in numbers.iter().zip(&exits) {
                if let Some(exit) = exit { world.exited(*number, seconds(*exit)); }
            }
            let last_exit = exits.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max());
            let expected = last_exit.is_some_and(|exit| !is_connected && last_used <= exit && now >= exit + PAUSE.as_secs());
            let abandoned = world.abandoned(seconds(now), seconds(last_used), is_connected);
            prop_assert_eq!(abandoned.len(), usize::from(expected));
        }
    }
}
