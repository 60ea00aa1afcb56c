//! Attaches the stream of a client to the next worker, as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::replay::{self, ReplayError};
use super::session::{Epoch, LISTS, list_changed};
use super::sessions::SharedSession;
use super::sse::{Event, Splitter};
use crate::deadline::{self, Deadline};
use crate::proxy::http::fetch;
use crate::proxy::http::request::Request;
use crate::proxy::http::worker_connection::WorkerBody;
use crate::proxy::listener::Listener;
use crate::proxy::stdio::own::SessionProcesses;
use crate::proxy::upstream::{Live, Upstream};

/// Between two attempts to get the next process of a session.
const AGAIN: Duration = Duration::from_millis(500);

/// The connection to the worker.
pub struct Attached {
    pub up: Arc<Live>,
    pub body: WorkerBody,
    pub splitter: Splitter,
    /// The client got its acknowledgement from an earlier worker.
    pub swallow: bool,
    /// Events of mcpd that come first.
    pub first: Vec<u8>,
    pub since: Instant,
}

impl Attached {
    pub fn new(up: Arc<Live>, body: WorkerBody) -> Self {
        let since = deadline::now();
        Self { up, body, splitter: Splitter::default(), swallow: false, first: vec![], since }
    }
}

/// A stream whose worker is gone, or about to stop.
pub struct Attaching {
    pub listener: Arc<Listener>,
    pub request: Arc<Request>,
    pub session: Option<SharedSession>,
    /// The epoch of the worker that served it.
    pub old: Epoch,
    pub swallow: bool,
    pub pause: Duration,
}

/// What an attempt to open a stream came to.
enum Opened {
    Attached(Attached),
    /// The worker does not take it yet.
    NotYet,
    /// It refuses it.
    Refused,
}

impl Attaching {
    /// Opens the same stream with the worker that is live; `None` if that is refused.
    pub async fn attach(mut self) -> Option<Attached> {
        if let (Some(processes), Some(session)) = (&self.listener.session_processes, &self.session) {
            return attach_to_own(&self.listener, processes, &self.request, session, self.old).await;
        }
        let mut failures = 0;
        loop {
            deadline::until(deadline::now() + std::mem::take(&mut self.pause)).await;
            let up = live(&self.listener).await;
            match self.open(&up).await {
                Opened::Attached(attached) => return Some(attached),
                Opened::Refused => return None,
                Opened::NotYet => {
                    failures += 1;
                    self.pause = pause(failures);
                }
            }
        }
    }

    async fn open(&self, up: &Arc<Live>) -> Opened {
        let mut first = if self.swallow { requested_changes(&self.request.body) } else { vec![] };
        if let Some(session) = &self.session {
            match replay::replay(&self.listener, up, session, &self.request.head).await {
                Ok(()) => push_list_changed(session, &mut first),
                Err(ReplayError::NotYet(_) | ReplayError::Unavailable(_)) => return Opened::NotYet,
                Err(ReplayError::Refused(why)) => {
                    tracing::info!(worker = %self.listener.name, %why, "a stream ended with its session");
                    return Opened::Refused;
                }
                // The client's next request gets the worker's response.
                Err(ReplayError::Denied(_)) => return Opened::Refused,
            }
        }
        let replays = fetch::replays(self.session.as_ref());
        match up.call(&self.request, self.session.as_ref()).await {
            Ok(response) if response.head.is_success() => {
                let swallow = self.swallow;
                Opened::Attached(Attached { swallow, first, ..Attached::new(up.clone(), response.body) })
            }
            Ok(mut response) => match &self.session {
                Some(session) if fetch::is_lost(&self.request, session, replays, &mut response).await => {
                    Opened::NotYet
                }
                _ => match response.head.status {
                    // The worker has not noticed the end of the last stream yet.
                    409 => Opened::NotYet,
                    status if replay::is_not_yet(status) => Opened::NotYet,
                    _ => Opened::Refused,
                },
            },
            Err(_) => Opened::NotYet,
        }
    }
}

/// Before the next attempt, after this number of failures in a row.
pub fn pause(failures: u32) -> Duration {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);
    let doubled = failures.checked_sub(1).map(|times| FIRST.saturating_mul(1 << times.min(10)));
    doubled.unwrap_or_default().min(LONGEST)
}

/// Opens the same stream with the next process of its session; `None` if the session has ended.
async fn attach_to_own(
    listener: &Listener,
    processes: &SessionProcesses,
    request: &Request,
    session: &SharedSession,
    old: Epoch,
) -> Option<Attached> {
    let id = session.lock().id.clone();
    while listener.sessions.get(&id).is_some() {
        let deadline = Deadline::after(listener.hold);
        match replay::own_process(listener, processes, session, &request.head, deadline).await {
            Ok(up) if up.epoch != old => {
                if let Ok(response) = up.call(request, Some(session)).await {
                    let mut first = vec![];
                    push_list_changed(session, &mut first);
                    let attached = Attached { first, ..Attached::new(up, response.body) };
                    return response.head.is_success().then_some(attached);
                }
            }
            Err(ReplayError::Refused(why)) => {
                tracing::info!(worker = %listener.name, %why, "a stream ended with its session");
                return None;
            }
            Err(ReplayError::Denied(_)) => return None,
            Ok(_) | Err(ReplayError::NotYet(_) | ReplayError::Unavailable(_)) => {}
        }
        deadline::until(deadline::now() + AGAIN).await;
    }
    None
}

/// The worker that is live and not about to stop.
async fn live(listener: &Listener) -> Arc<Live> {
    let mut upstream = listener.upstream.clone();
    let is_live = |state: &Upstream| matches!(state, Upstream::Live(up) if !up.detach.is_cancelled());
    let live = match upstream.wait_for(is_live).await.as_deref() {
        Ok(Upstream::Live(up)) => Some(up.clone()),
        _ => None,
    };
    match live {
        Some(up) => up,
        // The supervisor has ended: only the notice follows.
        None => std::future::pending().await,
    }
}

/// The `list_changed` notifications that a client of `subscriptions/listen` asked for: with the next worker the lists may be
/// others (2026-07-28).
fn requested_changes(listen: &[u8]) -> Vec<u8> {
    let request: Value = serde_json::from_slice(listen).unwrap_or_default();
    let meta = json!({ "io.modelcontextprotocol/subscriptionId": request["id"] });
    let mut events = vec![];
    for kind in LISTS {
        if request["params"]["notifications"][format!("{kind}ListChanged")] == true {
            let mut changed = list_changed(kind);
            changed["params"] = json!({ "_meta": meta });
            Event::push_message(&mut events, &changed);
        }
    }
    events
}

/// A client whose session continued with another worker gets `list_changed` on its first stream.
pub fn push_list_changed(session: &SharedSession, out: &mut Vec<u8>) {
    session.lock().take_list_changed().iter().for_each(|changed| Event::push_message(out, changed));
}
