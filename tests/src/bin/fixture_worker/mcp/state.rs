//! The sessions that this process knows, and what was sent in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The state of all sessions.
#[derive(Default)]
pub struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// The part behind the lock.
#[derive(Default)]
pub struct Inner {
    /// By id.
    pub sessions: BTreeMap<String, Session>,
    /// Calls of `stuck` so far.
    pub stuck: u32,
    /// Requests that the client abandoned before the answer.
    pub abandoned: u32,
    /// Answers for the stream of a client of 2024-11-05.
    pub on_the_stream: Vec<Value>,
}

/// A session.
#[derive(Default)]
pub struct Session {
    /// `notifications/initialized` came.
    pub initialized: bool,
    /// The last `logging/setLevel`.
    pub level: Option<String>,
    /// What is subscribed.
    pub subscriptions: BTreeSet<String>,
    /// Answers of the client, by the id of our request.
    pub answers: Vec<Value>,
}

impl Session {
    /// As the tool `state` returns it.
    pub fn describe(&self) -> Value {
        json!({
            "pid": std::process::id(), "initialized": self.initialized, "level": self.level,
            "subscriptions": self.subscriptions, "answers": self.answers,
        })
    }
}

impl State {
    /// Locks the state to read or change it; threads that wait for a change are woken.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.changed.notify_all();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that begins; its id names this process.
    pub fn begin(&self) -> String {
        let mut inner = self.lock();
        let id = format!("{}-{}", std::process::id(), inner.sessions.len());
        inner.sessions.insert(id.clone(), Session::default());
        id
    }

    /// Waits for an answer to the request with this id in this session.
    pub fn answer(&self, session: &str, id: &Value, limit: Duration) -> Option<Value> {
        let end = Instant::now() + limit;
        let mut inner = self.lock();
        loop {
            let answers = &inner.sessions.get(session)?.answers;
            if let Some(answer) = answers.iter().find(|answer| answer["id"] == *id) {
                return Some(answer.clone());
            }
            let left = end.checked_duration_since(Instant::now())?;
            // The change may come after the notification, so poll again soon.
            let soon = left.min(Duration::from_millis(20));
            inner = self.changed.wait_timeout(inner, soon).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
