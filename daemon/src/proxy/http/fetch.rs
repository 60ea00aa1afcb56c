//! Fetches the response to a request: sends it to the worker that is live, as often as it was certainly not executed.

use std::sync::Arc;
use std::time::Duration;

use super::reply::Reply;
use super::request::{Method, Request};
use super::worker_connection::{CallError, Response};
use crate::deadline::{self, Deadline};
use crate::proxy::listener::Listener;
use crate::proxy::mcp::errors::{failure, interrupted, refused};
use crate::proxy::mcp::lost;
use crate::proxy::mcp::message::{INTERRUPTED, SHUTTING_DOWN, error_for};
use crate::proxy::mcp::opening::{early_reply, hold, unavailable};
use crate::proxy::mcp::replay::{self, ReplayError};
use crate::proxy::mcp::session::Session;
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::mcp::sse::Event;
use crate::proxy::upstream::{Live, SendError};

/// What a request got.
pub enum Fetched {
    /// The head of the worker's response; its body follows.
    Response(Arc<Live>, Response),
    /// The worker refuses the client's credentials in a replay.
    Denied(Box<Response>),
    /// A response of mcpd itself.
    Reply(Reply),
    /// The client has disconnected, or mcpd closes the connection by force.
    Gone,
}

/// Sends the request to the worker that is live, as often as it was certainly not executed, and waits for a response.
pub async fn fetch(listener: &Listener, request: &Request, session: Option<&SharedSession>) -> Fetched {
    if let Some(reply) = early_reply(listener, request) {
        return Fetched::Reply(reply);
    }
    let deadline = Deadline::after(hold(listener, request));
    let mut again = Again::default();
    loop {
        let up = match live_worker(listener, request, session, deadline).await {
            Ok(up) => up,
            Err(NotLive::Denied(response)) => return Fetched::Denied(response),
            Err(NotLive::Reply(reply)) => return Fetched::Reply(reply),
            Err(NotLive::Unavailable(why)) => return Fetched::Reply(unavailable(listener, request, &why)),
        };
        let replays = replays(session);
        let has_own_host = listener.worker_host.is_own();
        let error = match up.call(request, session).await {
            Ok(mut response) => {
                if !response.head.is_success()
                    && (listener.worker_host.is_refused(has_own_host, &mut response).await
                        || again.is_due(request, session, replays, &mut response).await)
                {
                    continue;
                }
                // Read completely, so that a worker that exits in the middle of it causes an error and not a cut.
                if request.has_calls()
                    && !response.is_stream()
                    && response.read_whole(&listener.budget).await.is_err()
                {
                    return Fetched::Reply(interrupted(listener, request));
                }
                return Fetched::Response(up, response);
            }
            Err(error) => error,
        };
        let may_repeat = !deadline.remaining().is_zero();
        match error {
            SendError::NotSent(error) if may_repeat => {
                tracing::debug!(worker = %listener.name, %error, "waiting for the worker");
                wait_for_another(&up, deadline).await;
            }
            SendError::NotSent(error) => {
                return Fetched::Reply(refused(
                    listener,
                    request,
                    &format!("{}: {error}", listener.not_in_time()),
                ));
            }
            // A stream that has not begun can begin with the next worker.
            SendError::Call(CallError::Broken(_)) if request.head.wants_events() && may_repeat => {
                wait_for_another(&up, deadline).await;
            }
            // The worker died and its kernel reset the connection: the request was not read to its end.
            SendError::Call(error) if error.is_reset() && may_repeat && has_exited(&up).await => {
                tracing::debug!(worker = %listener.name, %error, "a request that was not read is sent again");
            }
            SendError::Call(error) => {
                settle(&up).await;
                return Fetched::Reply(failure(listener, request, &error));
            }
        }
    }
}

/// How often the session was replayed when a request of it is sent.
pub fn replays(session: Option<&SharedSession>) -> u32 {
    session.map_or(0, |session| session.lock().replays)
}

/// Which refusals of the worker a request has had: it is sent again once for each.
#[derive(Default)]
struct Again {
    is_replayed: bool,
    /// Until then, a second stream of the session may wait for the end of the first one.
    stream_until: Option<Deadline>,
}

impl Again {
    /// Whether the worker refused the request for a reason that has passed, so that it is sent again.
    async fn is_due(
        &mut self,
        request: &Request,
        session: Option<&SharedSession>,
        replays: u32,
        response: &mut Response,
    ) -> bool {
        const STREAM_ENDS_WITHIN: Duration = Duration::from_secs(2);
        const PAUSE: Duration = Duration::from_millis(100);
        let Some(session) = session.filter(|_| request.head.method != Method::Delete) else { return false };
        if response.head.status == 409 && request.head.wants_events() {
            let until = *self.stream_until.get_or_insert_with(|| Deadline::after(STREAM_ENDS_WITHIN));
            deadline::until(deadline::now() + PAUSE).await;
            return !until.remaining().is_zero();
        }
        let is_lost = !self.is_replayed && is_lost(request, session, replays, response).await;
        self.is_replayed |= is_lost;
        is_lost
    }
}

/// Whether the worker has lost the session of the request; if so, it is replayed before the next one.
pub async fn is_lost(
    request: &Request,
    session: &SharedSession,
    replays: u32,
    response: &mut Response,
) -> bool {
    let is_lost = request.head.target() == session.lock().path && lost::is_lost(response).await;
    if is_lost {
        session.lock().lose(replays);
    }
    is_lost
}

/// Why a request is not sent to a worker.
pub enum NotLive {
    /// The worker refuses the client's credentials.
    Denied(Box<Response>),
    /// No worker is live; a sentence for the client.
    Unavailable(String),
    /// mcpd responds itself.
    Reply(Reply),
}

/// Waits for a worker that is live and knows the session.
///
/// # Errors
/// See [`NotLive`].
pub async fn live_worker(
    listener: &Listener,
    request: &Request,
    session: Option<&SharedSession>,
    deadline: Deadline,
) -> Result<Arc<Live>, NotLive> {
    loop {
        if listener.phase.borrow().is_shutting_down() {
            return Err(NotLive::Unavailable(SHUTTING_DOWN.1.to_owned()));
        }
        let found = match (&listener.session_processes, session) {
            // Boxed, as these are rare: requests in flight own little memory.
            (Some(processes), Some(session)) => {
                let head = &request.head;
                Box::pin(replay::own_process(listener, processes, session, head, deadline)).await
            }
            (Some(processes), None) if request.begins_session() => {
                let started = Box::pin(listener.session_process(processes, deadline)).await;
                return started.map_err(NotLive::Unavailable);
            }
            _ => shared_worker(listener, request, session, deadline).await,
        };
        match (found, session) {
            (Ok(up), session) => {
                let lost = session.and_then(|session| lost_answer(request, &session.lock()));
                return lost.map_or(Ok(up), |reply| Err(NotLive::Reply(reply)));
            }
            (Err(ReplayError::Denied(response)), _) => return Err(NotLive::Denied(response)),
            (Err(ReplayError::Refused(why)), session) => {
                tracing::info!(worker = %listener.name, %why, "a session ended");
                session.into_iter().for_each(|session| listener.sessions.forget(&session.lock().id));
                return Err(NotLive::Reply(Reply::text(404, format!("{why}\n"))));
            }
            (Err(ReplayError::Unavailable(why)), _) => return Err(NotLive::Unavailable(why)),
            (Err(ReplayError::NotYet(why)), _) if deadline.remaining().is_zero() => {
                return Err(NotLive::Unavailable(format!(
                    "the session could not be initialized again: {why}"
                )));
            }
            (Err(ReplayError::NotYet(_)), _) => {}
        }
    }
}

/// The process that serves all sessions, once it knows this one.
async fn shared_worker(
    listener: &Listener,
    request: &Request,
    session: Option<&SharedSession>,
    deadline: Deadline,
) -> Result<Arc<Live>, ReplayError> {
    let up = listener.worker(deadline).await.map_err(ReplayError::Unavailable)?;
    let Some(session) = session else { return Ok(up) };
    match replay::replay(listener, &up, session, &request.head).await {
        Err(ReplayError::NotYet(why)) => {
            wait_for_another(&up, deadline).await;
            Err(ReplayError::NotYet(why))
        }
        replayed => replayed.map(|()| up),
    }
}

/// The error for a client that resumes a response whose worker has exited. Forwarded, it would be a second `GET`
/// stream.
fn lost_answer(request: &Request, session: &Session) -> Option<Reply> {
    let (epoch, id) = request.head.resumed().filter(|(epoch, _)| *epoch != session.epoch)?;
    tracing::debug!(epoch, "a response can't be resumed");
    let mut event = vec![];
    Event::push_message(&mut event, &error_for(&id, INTERRUPTED));
    Some(Reply::events(event))
}

/// The worker is gone, but the supervisor has not published it yet.
pub async fn wait_for_another(up: &Live, deadline: Deadline) {
    let soon = deadline.at_most(Duration::from_millis(50));
    let _ = soon.wait(up.detach.cancelled()).await;
}

/// Whether this process of the worker has exited or closed its socket: a server that serves may reset a connection for
/// reasons of its own.
async fn has_exited(up: &Live) -> bool {
    const NOTICED_WITHIN: Duration = Duration::from_secs(1);
    up.examine().await;
    Deadline::after(NOTICED_WITHIN).wait(up.detach.cancelled()).await.is_ok()
}

/// A connection broke, most likely because the process exits: its condition is known in a moment.
pub async fn settle(up: &Live) {
    const NOTICED_WITHIN: Duration = Duration::from_millis(300);
    let _ = Deadline::after(NOTICED_WITHIN).wait(up.detach.cancelled()).await;
}
