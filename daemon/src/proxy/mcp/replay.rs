//! Initializes a new worker on behalf of a client, with what the client once sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::session::{Epoch, ReplayRefused, Session};
use super::sessions::SharedSession;
use super::sse::{Event, Splitter};
use crate::deadline::Deadline;
use crate::proxy::http::request::{Request, RequestHead};
use crate::proxy::http::response::Kind;
use crate::proxy::http::worker_connection::Response;
use crate::proxy::listener::Listener;
use crate::proxy::stdio::own::SessionProcesses;
use crate::proxy::upstream::Live;

/// Limit for the response to a replayed message.
const ANSWER: Duration = Duration::from_secs(10);
/// Limit for a replayed message's response, in bytes.
const LONGEST: usize = 4 * 1024 * 1024;

/// Why a session could not be replayed.
pub enum ReplayError {
    /// The session ends, as it would without mcpd.
    Refused(ReplayRefused),
    /// The worker has exited or does not take requests yet: a later attempt may succeed.
    NotYet(String),
    /// The client's credentials are wrong: it gets the worker's response, and the session goes on.
    Denied(Box<Response>),
    /// There is no process for it now.
    Unavailable(String),
}

impl From<ReplayRefused> for ReplayError {
    fn from(refused: ReplayRefused) -> Self {
        Self::Refused(refused)
    }
}

/// Makes the session one of the present worker. The first request does it, the others wait. `cause` has the client's
/// credentials, which are never stored.
///
/// # Errors
/// See [`ReplayError`].
pub async fn replay(
    listener: &Listener,
    up: &Arc<Live>,
    session: &SharedSession,
    cause: &RequestHead,
) -> Result<(), ReplayError> {
    if session.lock().epoch == up.epoch {
        return Ok(());
    }
    Box::pin(replay_once(listener, up, session, cause)).await
}

/// The process of a session that has one of its own. If it is gone, the session goes on with a new one. The first request
/// starts it, the others wait.
///
/// # Errors
/// See [`ReplayError`].
pub async fn own_process(
    listener: &Listener,
    processes: &SessionProcesses,
    session: &SharedSession,
    cause: &RequestHead,
    deadline: Deadline,
) -> Result<Arc<Live>, ReplayError> {
    let present = |session: &SharedSession| processes.live(session.lock().epoch);
    if let Some(up) = present(session) {
        return Ok(up);
    }
    let turn = deadline.wait(session.replaying.lock()).await;
    let _turn = turn.map_err(|_| ReplayError::Unavailable(listener.not_in_time()))?;
    if let Some(up) = present(session) {
        return Ok(up);
    }
    let up = listener.session_process(processes, deadline).await.map_err(ReplayError::Unavailable)?;
    let new = EndUnlessAdopted { processes, epoch: Some(up.epoch) };
    let mut copy = session.lock().clone();
    processes.claim(&up, &copy.id);
    // Between two messages it does not look idle to another session that needs a place.
    let _busy = up.keep_busy();
    replay_in_time(listener, &up, &mut copy, cause).await?;
    new.adopt();
    adopt(listener, session, copy);
    Ok(up)
}

/// A process that a session could not go on with.
struct EndUnlessAdopted<'a> {
    processes: &'a SessionProcesses,
    epoch: Option<Epoch>,
}

impl EndUnlessAdopted<'_> {
    fn adopt(mut self) {
        self.epoch = None;
    }
}

impl Drop for EndUnlessAdopted<'_> {
    fn drop(&mut self) {
        self.epoch.into_iter().for_each(|epoch| self.processes.end_epoch(epoch));
    }
}

async fn replay_once(
    listener: &Listener,
    up: &Arc<Live>,
    session: &SharedSession,
    cause: &RequestHead,
) -> Result<(), ReplayError> {
    let _turn = session.replaying.lock().await;
    let mut copy = session.lock().clone();
    if copy.epoch == up.epoch {
        return Ok(());
    }
    replay_in_time(listener, up, &mut copy, cause).await?;
    adopt(listener, session, copy);
    Ok(())
}

/// An incomplete replay does not count: it changes a copy.
async fn replay_in_time(
    listener: &Listener,
    up: &Arc<Live>,
    copy: &mut Session,
    cause: &RequestHead,
) -> Result<(), ReplayError> {
    let renewed = Deadline::after(ANSWER).wait(replay_messages(listener, up, copy, cause)).await;
    renewed.unwrap_or_else(|_| Err(ReplayError::NotYet("it did not answer in time".to_owned())))
}

fn adopt(listener: &Listener, session: &SharedSession, renewed: Session) {
    let mut session = session.lock();
    session.adopt(renewed);
    listener.sessions.save(&session);
}

async fn replay_messages(
    listener: &Listener,
    up: &Arc<Live>,
    session: &mut Session,
    cause: &RequestHead,
) -> Result<(), ReplayError> {
    let hello = post(up, session, &session.hello(), (cause, None)).await?;
    let id = hello.head.session.clone().ok_or_else(|| ReplayRefused("gave no session id".to_owned()))?;
    let answer = first_message(hello).await?;
    for message in session.renew(up.epoch, id, &answer)? {
        let answer = post(up, session, &message, (cause, Some(&session.worker_id))).await?;
        if message.get("id").is_some() {
            first_message(answer).await?;
        }
    }
    tracing::info!(worker = %listener.name, epoch = up.epoch, "a session goes on with the new worker");
    Ok(())
}

async fn post(
    up: &Arc<Live>,
    session: &Session,
    message: &Value,
    (cause, id): (&RequestHead, Option<&str>),
) -> Result<Response, ReplayError> {
    let head = RequestHead::on_behalf_of(cause, &session.path, id.map(|id| (id, session.version())));
    let request = Request::of_mcpd(head, message.to_string().into_bytes());
    let response = up.call(&request, None).await.map_err(not_yet)?;
    match response.head.status {
        200..300 => Ok(response),
        401 | 403 => Err(ReplayError::Denied(Box::new(response))),
        status if is_not_yet(status) => Err(ReplayError::NotYet(format!("it answered {status}"))),
        // It has forgotten the new session as well.
        404 if id.is_some() => Err(ReplayError::NotYet("it forgot the session".to_owned())),
        status => Err(ReplayRefused(format!("answered {status}")).into()),
    }
}

/// Whether a worker says by this status that it takes requests later.
pub fn is_not_yet(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

/// The message of a response, in JSON or as the first event with data.
async fn first_message(mut response: Response) -> Result<Value, ReplayError> {
    let is_stream = response.head.kind == Kind::Events;
    let mut splitter = Splitter::default();
    let mut found = None;
    let mut bytes = vec![];
    let mut total = 0;
    while !response.body.is_done() && found.is_none() {
        let before = bytes.len();
        response.body.read(&mut bytes).await.map_err(not_yet)?;
        total += bytes.len() - before;
        if total > LONGEST {
            return Err(ReplayRefused("answered too much".to_owned()).into());
        }
        if is_stream {
            splitter.push(&bytes, |event| found = found.take().or_else(|| answer_in(event)));
            bytes.clear();
        }
    }
    match (found, is_stream) {
        (Some(answer), _) => Ok(answer),
        (None, true) => Err(ReplayError::NotYet("it ended its answer early".to_owned())),
        (None, false) => serde_json::from_slice(&bytes)
            .map_err(|_| ReplayRefused("did not answer in JSON".to_owned()).into()),
    }
}

fn answer_in(event: &[u8]) -> Option<Value> {
    let event = Event::read(event)?;
    let value: Value = serde_json::from_str(&event.data).ok()?;
    (value.get("method").is_none() && value.get("id").is_some()).then_some(value)
}

fn not_yet(error: impl std::fmt::Display) -> ReplayError {
    ReplayError::NotYet(error.to_string())
}
