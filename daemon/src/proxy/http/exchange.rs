//! The path of a request.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::client::{After, Client, Interruption};
use super::cors;
use super::fetch::{Fetched, fetch};
use super::framing::BodyLength;
use super::incoming::{self, NotRead, Upload};
use super::late;
use super::reply::Reply;
use super::request::{Method, Request, RequestHead};
use super::response::Next;
use super::shutdown_path;
use super::transfer;
use super::worker_connection::Response;
use crate::proxy::listener::Listener;
use crate::proxy::mcp::attach::Attached;
use crate::proxy::mcp::errors::interrupted;
use crate::proxy::mcp::message::Message;
use crate::proxy::mcp::opening::{DISCOVER, note_discovery};
use crate::proxy::mcp::session::Session;
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::mcp::silence;
use crate::proxy::mcp::stream::{Purpose, Relay};
use crate::proxy::upstream::Live;

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

/// What a request got, and whether the client got the head of an event stream before, because it had waited too long.
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
