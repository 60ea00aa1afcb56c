//! The path of a request.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{After, Client, Interruption};
use super::cors;
use super::framing::BodyLength;
use super::incoming::{self, NotRead, Upload};
use super::late;
use super::reply::Reply;
use super::request::{Method, Request, RequestHead};
use super::response::Next;
use super::shutdown_path;
use super::transfer;
use super::worker_connection::{CallError, Response};
use crate::condition::Fate;
use crate::deadline::{self, Deadline};
use crate::proxy::listener::Listener;
use crate::proxy::mcp::errors;
use crate::proxy::mcp::lost;
use crate::proxy::mcp::message::{INTERRUPTED, Message, SHUTTING_DOWN, error_for};
use crate::proxy::mcp::replay::{self, ReplayError};
use crate::proxy::mcp::session::Session;
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::mcp::silence;
use crate::proxy::mcp::sse::Event;
use crate::proxy::mcp::stream::{Attached, Purpose, Relay};
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

/// Serves one request.
///
/// ```text
///   client --head, body--> session --> a live worker --> response --> client
///            |               |           |                 | events: relayed, across workers (mcp/stream)
///            |               |           |                 | JSON: read whole, so that it is never cut
///            |               |           |                 ` anything else: passed on as it arrives (transfer)
///            |               |           ` none: held; restarted: the session is replayed; died: the error
///            |               ` its id and ids of the worker's requests are the worker's own again
///            ` refused; too large to keep: passed on as it arrives (transfer)
/// ```
pub async fn exchange(listener: &Arc<Listener>, client: &mut Client, head: RequestHead) -> After {
    client.connection.requests.fetch_add(1, Ordering::Relaxed);
    let keeps_alive = head.keeps_alive;
    if let Some(reply) = refusal(listener, &head) {
        return client.reply(listener, &reply, Next::Close, head.method != Method::Head).await;
    }
    if let Some(reply) = cors::preflight(&head) {
        return client.reply(listener, &reply, listener.next(keeps_alive), true).await;
    }
    let (mut request, mut upload) = match incoming::read(listener, client, head).await {
        Ok(read) => read,
        Err(NotRead::Gone) => return After::Close,
        Err(NotRead::Reply(reply)) => return client.reply(listener, &reply, Next::Close, true).await,
    };
    let session = enter_session(listener, client, &request);
    let fetched = match (restore_messages(listener, session.as_ref(), &mut request), &mut upload) {
        // A response to a worker that has exited.
        (Restored::Nothing, _) => Fetched::Reply(Reply::accepted()),
        (Restored::Messages, None)
            if let Some(end) = end_of_process(listener, session.as_ref(), &request) =>
        {
            Fetched::Reply(end.await)
        }
        (Restored::Messages, None) => match answer(listener, client, &request, session.as_ref()).await {
            Answer::InTime(fetched) => fetched,
            Answer::Late(fetched) => {
                return Box::pin(late::deliver(listener, client, request, session, fetched)).await;
            }
        },
        (Restored::Messages, Some(_)) if listener.is_stdio => Fetched::Reply(too_long(listener)),
        (Restored::Messages, Some(upload)) => {
            Box::pin(transfer::fetch(listener, client, &mut request, session.as_ref(), upload)).await
        }
    };
    let next = listener.next(keeps_alive && upload.as_ref().is_none_or(|upload| upload.is_done()));
    let after = match allow_origin(client, fetched) {
        Fetched::Response(up, response) => {
            deliver(listener, client, request, session, upload, (up, response), next).await
        }
        Fetched::Denied(response) => {
            Box::pin(transfer::deliver(listener, client, &request, None, *response, None, next)).await
        }
        Fetched::Reply(reply) => {
            client.reply(listener, &reply, next, request.head.method != Method::Head).await
        }
        Fetched::Gone => After::Close,
    };
    if after == After::NextRequest && next == Next::Close { After::Linger } else { after }
}

/// Lets the page that sent the request read the response.
fn allow_origin(client: &Client, mut fetched: Fetched) -> Fetched {
    if let Some(origin) = &client.origin {
        match &mut fetched {
            Fetched::Response(_, response) => response.head.allow(origin),
            Fetched::Denied(response) => response.head.allow(origin),
            Fetched::Reply(_) | Fetched::Gone => {}
        }
    }
    fetched
}

/// What a request got, and whether the client had waited so long that it got the head of an event stream before.
enum Answer {
    InTime(Fetched),
    Late(Fetched),
}

/// Fetches the response while the client stays connected.
async fn answer(
    listener: &Listener,
    client: &mut Client,
    request: &Request,
    session: Option<&SharedSession>,
) -> Answer {
    let mut fetching = std::pin::pin!(fetch(listener, request, session));
    if request.has_calls() {
        client.connection.set_limit(silence::patience());
    }
    loop {
        match client.while_connected(listener, fetching.as_mut()).await {
            Ok(fetched) => return Answer::InTime(fetched),
            Err(Interruption::Gone) => return Answer::InTime(Fetched::Gone),
            Err(Interruption::Overdue) if late::may_become_stream(request) => break,
            Err(Interruption::Overdue) => {}
        }
    }
    let next = listener.next(request.head.keeps_alive);
    Answer::Late(Box::pin(late::wait(listener, client, next, fetching)).await.unwrap_or(Fetched::Gone))
}

/// The response to a request that is never forwarded.
fn refusal(listener: &Listener, head: &RequestHead) -> Option<Reply> {
    let path = listener.shutdown_path.as_deref()?;
    let is_requested = shutdown_path::is_requested(head.path(), path);
    is_requested.then(|| Reply::text(403, format!("only mcpd may request {path} (shutdown_path)\n")))
}

/// The session that mcpd keeps for the request.
fn enter_session(listener: &Listener, client: &Client, request: &Request) -> Option<SharedSession> {
    let id = request.head.session.as_deref()?;
    client.connection.used_by(id);
    let session = listener.sessions.get(id)?;
    if request.head.method == Method::Delete && !listener.phase.borrow().is_shutting_down() {
        listener.sessions.forget(id);
    }
    Some(session)
}

/// The client ends a session that has a process of its own. A process is not started for that.
fn end_of_process<'a>(
    listener: &'a Listener,
    session: Option<&'a SharedSession>,
    request: &'a Request,
) -> Option<impl Future<Output = Reply> + 'a> {
    let is_delete = request.head.method == Method::Delete && !listener.phase.borrow().is_shutting_down();
    let processes = listener.session_processes.as_ref().filter(|_| is_delete)?;
    let session = session?;
    Some(async move {
        let epoch = session.lock().epoch;
        if let Some(up) = processes.live(epoch) {
            // Its stream ends. If that fails, the process has exited.
            drop(up.call(request, Some(session)).await);
            processes.end_epoch(epoch);
        }
        Reply::text(200, "")
    })
}

enum Restored {
    Messages,
    /// Nothing is left to forward.
    Nothing,
}

/// Responses get the worker's own request id back; messages that a replay needs are kept.
fn restore_messages(listener: &Listener, session: Option<&SharedSession>, request: &mut Request) -> Restored {
    let concerns = |message: &Message| matches!(message, Message::Answer { .. }) || is_kept(message);
    let messages = request.messages.as_ref().map(|messages| &*messages.all).unwrap_or_default();
    let Some(session) = session.filter(|_| messages.iter().any(concerns)) else {
        return Restored::Messages;
    };
    let Ok(value) = serde_json::from_slice::<Value>(&request.body) else { return Restored::Messages };
    let is_kept = messages.iter().any(is_kept);
    let mut session = session.lock();
    let mut restore = |message: Value| {
        session.note(&message);
        if message.get("method").is_none() { session.inward(&message) } else { Some(message) }
    };
    let restored = match value {
        Value::Array(all) => {
            let restored: Vec<_> = all.into_iter().filter_map(restore).collect();
            (!restored.is_empty()).then_some(Value::Array(restored))
        }
        one => restore(one),
    };
    if is_kept {
        listener.sessions.save(&session);
    }
    let Some(restored) = restored else { return Restored::Nothing };
    request.body = restored.to_string().into_bytes();
    Restored::Messages
}

/// Sends the request to the worker that is live, as often as it was certainly not executed, and waits for a response.
async fn fetch(listener: &Listener, request: &Request, session: Option<&SharedSession>) -> Fetched {
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

/// How long the request waits for a worker. Clients give up on their first request soon (R-CLIENT-10).
pub fn hold(listener: &Listener, request: &Request) -> Duration {
    const FIRST: Duration = Duration::from_secs(8);
    let is_first = request.is_call("initialize")
        || request.is_call(DISCOVER)
        || request.head.path().starts_with("/.well-known/");
    if is_first { listener.hold.min(FIRST) } else { listener.hold }
}

const DISCOVER: &str = "server/discover";

/// A worker that is not up has no documents about OAuth; a client that waited for them would never connect.
fn early_reply(listener: &Listener, request: &Request) -> Option<Reply> {
    let is_discovery = request.head.path().starts_with("/.well-known/oauth-");
    (is_discovery && !listener.is_live()).then(|| Reply::text(404, "the server is not up\n"))
}

/// The response to a request for which no worker is live.
fn unavailable(listener: &Listener, request: &Request, why: &str) -> Reply {
    let known = listener.discovered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match (known, request.messages.as_ref().map(|messages| &*messages.all)) {
        (Some(result), Some([Message::Request { id, method }])) if method == DISCOVER => {
            Reply::json(json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string())
        }
        _ => refused(listener, request, why),
    }
}

/// Keeps the result of `server/discover`.
fn note_discovery(listener: &Listener, body: &[u8]) {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if answer["result"].is_object() {
        *listener.discovered.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer["result"].clone());
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

/// Passes the worker's response on.
async fn deliver(
    listener: &Arc<Listener>,
    client: &mut Client,
    request: Request,
    session: Option<SharedSession>,
    upload: Option<Box<Upload>>,
    (up, mut response): (Arc<Live>, Response),
    next: Next,
) -> After {
    let session = session.or_else(|| begin_session(listener, client, &request, &up, &response));
    let id = session.as_ref().filter(|_| response.head.session.is_some()).map(|it| it.lock().id.clone());
    if response.is_stream() {
        let length = if request.head.is_http_1_0 { BodyLength::UntilClose } else { BodyLength::Chunked };
        let head = response.head.write(length, id.as_deref(), next);
        let purpose = purpose(&request, session.is_some());
        let relay = Relay::new(listener, client, request, session, purpose);
        return Box::pin(relay.run(head, Attached::new(up, response.body))).await;
    }
    if request.has_calls() {
        if upload.is_some() {
            let read = tokio::select! {
                biased;
                read = response.read_whole(&listener.budget) => read,
                () = client.gone(listener) => return After::Close,
            };
            if read.is_err() {
                return client.reply(listener, &interrupted(listener, &request), next, true).await;
            }
        }
        return deliver_whole(listener, client, &request, session, response, id, next).await;
    }
    let upload = upload.map(|upload| *upload);
    Box::pin(transfer::deliver(listener, client, &request, upload, response, id, next)).await
}

fn purpose(request: &Request, has_session: bool) -> Purpose {
    if request.is_call("subscriptions/listen") {
        Purpose::Listen
    } else if !request.head.may_get_events() || (has_session && request.head.resumed().is_some()) {
        // The rest of a response: only GET and listen streams are attached to the next worker.
        Purpose::Answer
    } else {
        Purpose::Get
    }
}

/// A JSON response that was read completely, or as far as it may be.
async fn deliver_whole(
    listener: &Listener,
    client: &mut Client,
    request: &Request,
    session: Option<SharedSession>,
    mut response: Response,
    id: Option<String>,
    next: Next,
) -> After {
    if !response.body.is_done() {
        return Box::pin(transfer::deliver(listener, client, request, None, response, id, next)).await;
    }
    let mut body = std::mem::take(&mut response.begin);
    if request.is_call(DISCOVER) && response.head.is_success() {
        note_discovery(listener, &body);
    }
    if let Some(session) = session
        && request.is_call("initialize")
        && let Ok(answer) = serde_json::from_slice::<Value>(&body)
    {
        let mut session = session.lock();
        session.agree(&answer["result"]);
        listener.sessions.save(&session);
    }
    let length = response.head.body.of_whole(&body);
    let mut bytes = response.head.write(length, id.as_deref(), next);
    bytes.append(&mut body);
    match client.send(listener, &bytes).await {
        Ok(()) => After::NextRequest,
        Err(_) => After::Close,
    }
}

/// The worker began a session: the client gets mcpd's id for it, which outlives the worker.
fn begin_session(
    listener: &Listener,
    client: &Client,
    request: &Request,
    up: &Live,
    response: &Response,
) -> Option<SharedSession> {
    if !request.is_call("initialize") || !response.head.is_success() || !listener.keeps_sessions {
        return None;
    }
    let worker_id = response.head.session.clone()?;
    let params = serde_json::from_slice::<Value>(&request.body).ok()?["params"].clone();
    let id = crate::proxy::mint().ok()?;
    let path = request.head.target().to_owned();
    client.connection.used_by(&id);
    listener.session_processes.iter().for_each(|processes| processes.claim(up, &id));
    Some(listener.sessions.keep(Session::begin(id, path, worker_id, up.epoch, params)))
}

/// The response to a request whose call failed after it was sent.
pub fn failure(listener: &Listener, request: &Request, error: &CallError) -> Reply {
    tracing::info!(worker = %listener.name, %error, "a request was interrupted");
    match error {
        CallError::Broken(_) | CallError::Unread => interrupted(listener, request),
        CallError::Head(_) | CallError::Bad(_) => match &request.messages {
            Some(_) => refused(listener, request, &error.to_string()),
            None => Reply::text(502, format!("{error}\n")),
        },
    }
}

/// The error for a request in flight, with its own id.
fn interrupted(listener: &Listener, request: &Request) -> Reply {
    match &request.messages {
        Some(messages) => {
            let errors = messages.errors(INTERRUPTED, &listener.explain(Fate::Interrupted));
            errors.map_or_else(Reply::accepted, Reply::json)
        }
        None => Reply::text(502, "the server was restarted\n"),
    }
}

/// The response to a request that was not executed.
pub fn refused(listener: &Listener, request: &Request, why: &str) -> Reply {
    let data = listener.explain(Fate::NotSent);
    errors::refused(request.messages.as_ref(), request.head.wants_events(), why, &data)
}

/// A server that speaks stdio takes only whole messages.
fn too_long(listener: &Listener) -> Reply {
    let limit = listener.longest_whole() / (1024 * 1024);
    Reply::text(
        413,
        format!("a message to this server has at most {limit} MiB, and a length that mcpd has room for\n"),
    )
}

fn is_kept(message: &Message) -> bool {
    const KEPT: [&str; 4] =
        ["notifications/initialized", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
    match message {
        Message::Request { method, .. } | Message::Notification { method } => KEPT.contains(&method.as_str()),
        Message::Answer { .. } => false,
    }
}
