//! Messages on their way to one client: those of a call, or those of a session's stream.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::proxy::budget::Share;

/// Notifications that a client does not read are dropped beyond this, in bytes.
const AHEAD: usize = 256 * 1024;

#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    events: VecDeque<Vec<u8>>,
    /// In `events`, in bytes.
    waiting: usize,
    answer: Option<Answer>,
    end: Option<End>,
}

/// Why no message follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The session has ended, or another stream has taken the place of this one.
    Finished,
    /// The server is gone.
    Broken,
}

/// The last message of a call, with the memory that it takes.
pub struct Answer {
    pub message: Vec<u8>,
    #[expect(dead_code, reason = "held, not read")]
    pub share: Share,
}

/// What comes next.
pub enum Received {
    Event(Vec<u8>),
    Answer(Answer),
    Ended(End),
}

impl Inbox {
    /// Adds a message; `false`: it was dropped, because the client is too far behind.
    pub fn push(&self, message: Vec<u8>) -> bool {
        let mut state = self.state();
        if state.waiting + message.len() > AHEAD && state.waiting > 0 {
            return false;
        }
        state.waiting += message.len();
        state.events.push_back(message);
        self.changed.notify_one();
        true
    }

    pub fn answer(&self, answer: Answer) {
        self.state().answer = Some(answer);
        self.changed.notify_one();
    }

    pub fn end(&self, why: End) {
        self.state().end.get_or_insert(why);
        self.changed.notify_one();
    }

    /// Waits for what comes next: whether it is an event.
    pub async fn begins_with_event(&self) -> bool {
        loop {
            let is_event = {
                let state = self.state();
                let is_there = !state.events.is_empty() || state.answer.is_some() || state.end.is_some();
                is_there.then_some(!state.events.is_empty())
            };
            match is_event {
                Some(is_event) => return is_event,
                None => self.changed.notified().await,
            }
        }
    }

    /// The next message; the answer comes last.
    pub async fn next(&self) -> Received {
        loop {
            if let Some(received) = self.take() {
                return received;
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Received> {
        let mut state = self.state();
        if let Some(event) = state.events.pop_front() {
            state.waiting -= event.len();
            return Some(Received::Event(event));
        }
        match state.answer.take() {
            Some(answer) => Some(Received::Answer(answer)),
            None => state.end.map(Received::Ended),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-STDIO-4: a client that does not read makes no memory grow, and still gets its answer.
    #[tokio::test]
    async fn what_is_not_read_is_dropped_but_for_the_answer() {
        let inbox = Inbox::default();
        let taken = (0..1000).filter(|_| inbox.push(vec![b'x'; 4096])).count();
        assert_eq!(taken, AHEAD / 4096);
        inbox.answer(Answer { message: b"last".to_vec(), share: Share::default() });
        inbox.end(End::Broken);
        for _ in 0..taken {
            assert!(matches!(inbox.next().await, Received::Event(_)));
        }
        assert!(matches!(inbox.next().await, Received::Answer(answer) if answer.message == b"last"));
        assert!(matches!(inbox.next().await, Received::Ended(End::Broken)));
        assert!(inbox.push(vec![b'x'; 2 * AHEAD]), "one that is larger than the bound");
    }
}
