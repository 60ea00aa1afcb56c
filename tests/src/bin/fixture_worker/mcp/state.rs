//! The sessions of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rude::Rudeness;

/// The state of all sessions.
pub struct State {
    pub rude: Rudeness,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// The part behind the lock.
#[derive(Default)]
pub struct Inner {
    /// By id.
    pub sessions: BTreeMap<String, Session>,
    /// Sessions so far.
    pub begun: u32,
    /// `DELETE` requests so far.
    pub deleted: u32,
    /// Requests that were refused for their `Host`.
    pub misdirected: u32,
    /// How often a tool was called with each `number`.
    pub calls: BTreeMap<String, u32>,
    /// Calls of `stuck` so far.
    pub stuck: u32,
    /// Requests whose client disconnected before the response.
    pub abandoned: u32,
    /// Responses to send on the stream of HTTP+SSE.
    pub sse_responses: Vec<Value>,
}

/// A session.
#[derive(Default)]
pub struct Session {
    /// Whether `notifications/initialized` was received.
    pub initialized: bool,
    /// The last `logging/setLevel`.
    pub level: Option<String>,
    /// The URIs of `resources/subscribe`.
    pub subscriptions: BTreeSet<String>,
    /// Responses of the client.
    pub responses: Vec<Value>,
    /// Open GET streams.
    pub streams: u32,
}

impl Session {
    /// The result of the tool `state`.
    pub fn describe(&self) -> Value {
        json!({
            "pid": std::process::id(), "initialized": self.initialized, "level": self.level,
            "subscriptions": self.subscriptions, "responses": self.responses,
        })
    }
}

impl State {
    pub fn new(rude: Rudeness) -> Self {
        Self { rude, inner: Mutex::default(), changed: Condvar::default() }
    }

    /// Locks the state to read or change it. Wakes threads that wait for a change.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.changed.notify_all();
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session. Its id contains the pid of this process.
    pub fn begin(&self) -> String {
        let mut inner = self.lock();
        let id = format!("{}-{}", std::process::id(), inner.begun);
        inner.begun += 1;
        inner.sessions.insert(id.clone(), Session::default());
        id
    }

    /// Waits for the client's response to the request with this id.
    pub fn wait_response(&self, session: &str, id: &Value, limit: Duration) -> Option<Value> {
        let end = Instant::now() + limit;
        let mut inner = self.lock();
        loop {
            let responses = &inner.sessions.get(session)?.responses;
            if let Some(response) = responses.iter().find(|response| response["id"] == *id) {
                return Some(response.clone());
            }
            let left = end.checked_duration_since(Instant::now())?;
            // The notification may come before the change, so poll again soon.
            let soon = left.min(Duration::from_millis(20));
            inner = self.changed.wait_timeout(inner, soon).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
