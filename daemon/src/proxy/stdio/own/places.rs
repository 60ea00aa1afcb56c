//! Who gets a process of its own when processes are limited, and which process ends for it. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Identifies a process of a worker within the run; see [`epoch`](crate::proxy::mcp::session::epoch).
pub type ProcessNumber = u32;

/// A process that lived shorter than this and exited by itself delays the next start.
const QUICK_EXIT: Duration = Duration::from_secs(10);
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a process does. It occupies its place until nothing of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupation {
    /// It is starting, or has a request or an event stream.
    Busy,
    /// Its session uses it again when the next request comes.
    Idle { since: Instant },
    /// It has been asked to exit.
    Ending,
}

/// What a session that needs a process gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// A process is started.
    Start,
    /// This one is asked to exit, and its place is waited for.
    End(ProcessNumber),
    /// A place is waited for that becomes free.
    Wait,
    /// All places are taken by processes that are in use.
    Full,
}

/// Decides for a session before which `ahead` other ones wait for a place.
pub fn admit(occupied: &[(ProcessNumber, Occupation)], places: usize, ahead: usize) -> Admission {
    let free = places.saturating_sub(occupied.len());
    if free > ahead {
        return Admission::Start;
    }
    let ending = occupied.iter().filter(|(_, it)| *it == Occupation::Ending).count();
    if free + ending > ahead {
        return Admission::Wait;
    }
    let idle = occupied.iter().filter_map(|(number, it)| match it {
        Occupation::Idle { since } => Some((*since, *number)),
        Occupation::Busy | Occupation::Ending => None,
    });
    idle.min().map_or(Admission::Full, |(_, oldest)| Admission::End(oldest))
}

/// Delays starts after processes that exited by themselves soon after their start.
#[derive(Debug, Default)]
pub struct StartDelay {
    quick_exits: u32,
    until: Option<Instant>,
}

impl StartDelay {
    /// A process exited without having been asked.
    pub fn exited(&mut self, lived: Duration, now: Instant) {
        if lived >= QUICK_EXIT {
            return *self = Self::default();
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.quick_exits.min(16)).min(LONGEST_WAIT);
        self.quick_exits = self.quick_exits.saturating_add(1);
        self.until = Some(now + wait);
    }

    /// When the next process may be started; `None`: at once.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
