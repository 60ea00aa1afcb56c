//! One request: refused, answered here, or forwarded (R-CLIENT-1, R-CLIENT-3).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use super::door::Door;
use super::message::{INTERRUPTED, LEAVING, Message, Messages, error_for};
use super::payload::{self, Payload, WHOLE};
use super::registry::Connection;
use super::renewal::{self, RenewalError};
use super::session::{EventId, Session};
use super::sessions::SharedSession;
use super::sse::Event;
use super::stream::{self, Purpose, Relay};
use super::upstream::{Body, Lease, SendError, Up, whole};
use super::{answer, body};
use crate::deadline::Deadline;

/// The session id in both directions.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Where an event stream goes on.
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Headers that speak of one connection only (RFC 9110, section 7.6.1), and two that mcpd answers for:
/// `Expect` itself, `Accept-Encoding` because it reads what it forwards.
const NOT_FORWARDED: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
    header::ACCEPT_ENCODING,
    header::TRAILER,
];

/// A request that is to be forwarded.
pub struct Exchange {
    /// The door it came through.
    pub door: Arc<Door>,
    /// The connection it came on.
    pub connection: Arc<Connection>,
    /// Its head, fit for the worker but for the session id.
    pub head: Parts,
    /// What it says, if that is JSON-RPC.
    pub messages: Option<Messages>,
    /// Its body, if it was read.
    pub body: Bytes,
}

/// Answers one request.
pub async fn answer(
    door: Arc<Door>,
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Response<Body> {
    connection.requests.fetch_add(1, Ordering::Relaxed);
    if let Err(refused) = door.allowed.check(request.uri(), request.headers()) {
        return answer::text(StatusCode::FORBIDDEN, format!("{refused}\n"));
    }
    if request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE) {
        return answer::text(StatusCode::NOT_IMPLEMENTED, "mcpd forwards HTTP/1.1 only\n");
    }
    let (mut head, body) = request.into_parts();
    let payload = match payload::read(&head, body).await {
        Ok(payload) => payload,
        Err(response) => return response,
    };
    let (messages, bytes) = match &payload {
        Payload::Whole(bytes) => (Messages::read(bytes), bytes.clone()),
        Payload::Streaming(_) => (None, Bytes::new()),
    };
    for name in NOT_FORWARDED {
        head.headers.remove(name);
    }
    let exchange = Exchange { door, connection, head, messages, body: bytes };
    if exchange.door.phase.borrow().is_leaving() {
        return exchange.refused(LEAVING.1);
    }
    exchange.forward(payload).await
}

impl Exchange {
    /// Whether the client asks for an event stream and nothing else.
    pub fn wants_events(&self) -> bool {
        let accept = self.head.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        self.head.method == Method::GET && accept.is_some_and(|accept| accept.contains("text/event-stream"))
    }

    /// Forwards it, with its session's id for the worker.
    async fn forward(mut self, payload: Payload) -> Response<Body> {
        let Some(id) = self.session_id() else {
            return self.send(payload, None).await;
        };
        self.connection.used_by(&id);
        let Some(session) = self.door.sessions.get(&id) else {
            return self.send(payload, None).await;
        };
        if self.head.method == Method::DELETE {
            self.door.sessions.forget(&id);
        }
        let payload = {
            let mut session = session.lock().await;
            match self.towards_the_worker(&mut session, payload) {
                Some(payload) => payload,
                // An answer to a worker that is dead.
                None => return answer::accepted(),
            }
        };
        self.send(payload, Some((id, session))).await
    }

    fn session_id(&self) -> Option<String> {
        self.head.headers.get(&SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned)
    }

    /// Answers get the id that the worker asked with; what has to be said again is kept.
    fn towards_the_worker(&mut self, session: &mut Session, payload: Payload) -> Option<Payload> {
        let Some(messages) = &self.messages else {
            return Some(payload);
        };
        let answers = messages.all.iter().any(|message| matches!(message, Message::Answer { .. }));
        if !answers && !messages.all.iter().any(is_kept) {
            return Some(payload);
        }
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        let (batch, all) = match value {
            Value::Array(all) => (true, all),
            one => (false, vec![one]),
        };
        let mut restored = vec![];
        let kept = messages.all.iter().any(is_kept);
        for message in all {
            session.note(&message);
            match message.get("method").is_none() {
                true => restored.extend(session.inward(&message)),
                false => restored.push(message),
            }
        }
        if kept {
            self.door.sessions.save(session);
        }
        let value = match (batch, restored.len()) {
            (_, 0) => return None,
            (true, _) => Value::Array(restored),
            (false, _) => restored.remove(0),
        };
        self.body = value.to_string().into();
        self.head.headers.remove(header::CONTENT_LENGTH);
        Some(Payload::Whole(self.body.clone()))
    }

    async fn send(self, payload: Payload, session: Option<(String, SharedSession)>) -> Response<Body> {
        let mut body = payload.into_body();
        let deadline = Deadline::after(self.door.hold);
        loop {
            let up = match self.door.worker().await {
                Ok(up) => up,
                Err(why) => return self.refused(&why),
            };
            if let Some((id, session)) = &session {
                match renewal::renew(&self.door, &up, session).await {
                    Ok(()) => {
                        if let Some(error) = self.lost_answer(session).await {
                            return error;
                        }
                    }
                    Err(RenewalError::Refused(why)) => {
                        tracing::info!(worker = %self.door.name, %why, "a session ended");
                        self.door.sessions.forget(id);
                        return answer::text(StatusCode::NOT_FOUND, format!("{why}\n"));
                    }
                    Err(RenewalError::Broken(why)) if deadline.remaining().is_zero() => {
                        return self.refused(&why);
                    }
                    Err(RenewalError::Broken(_)) => {
                        self.wait_for_another(&up, deadline).await;
                        continue;
                    }
                }
            }
            let request = self.request(session.as_ref().map(|(_, session)| session.as_ref()), body).await;
            match up.send(request).await {
                Ok((response, lease)) => return self.relay(up, response, lease, session).await,
                Err(SendError::NotSent(request, error)) => {
                    tracing::debug!(worker = %self.door.name, %error, "waiting for the worker");
                    if deadline.remaining().is_zero() {
                        return self.refused(&error.to_string());
                    }
                    body = request.into_body();
                    self.wait_for_another(&up, deadline).await;
                }
                // A stream that has not begun loses nothing by beginning with the next worker.
                Err(SendError::Broken(_)) if self.wants_events() && !deadline.remaining().is_zero() => {
                    body = whole("");
                    self.wait_for_another(&up, deadline).await;
                }
                Err(SendError::Broken(error)) => {
                    tracing::info!(worker = %self.door.name, %error, "a request was interrupted");
                    return self.interrupted();
                }
            }
        }
    }

    /// The error for a client that comes back for the rest of an answer whose worker is dead. Forwarded it
    /// would be a second `GET` stream.
    async fn lost_answer(&self, session: &tokio::sync::Mutex<Session>) -> Option<Response<Body>> {
        let last = self.head.headers.get(&LAST_EVENT)?.to_str().ok().and_then(EventId::read)?;
        let request = last.request.filter(|_| self.wants_events())?;
        let error = Event::message(&error_for(&request, INTERRUPTED));
        (last.epoch != session.lock().await.epoch).then(|| answer::events(whole(error)))
    }

    /// The worker is not there although the supervisor has not said so yet.
    async fn wait_for_another(&self, up: &Up, deadline: Deadline) {
        let soon = deadline.at_most(Duration::from_millis(50));
        let _ = soon.wait(up.detach.cancelled()).await;
    }

    async fn request(&self, session: Option<&tokio::sync::Mutex<Session>>, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.head.method.clone();
        let path = self.head.uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().unwrap_or_default();
        *request.headers_mut() = self.head.headers.clone();
        if let Some(session) = session {
            let session = session.lock().await;
            if let Ok(id) = HeaderValue::from_str(&session.worker_id) {
                request.headers_mut().insert(SESSION, id);
            }
            restore_last_event(request.headers_mut(), &session);
        }
        request
    }

    /// The same request once more, for another worker; its stream begins anew.
    pub async fn again(&self, session: Option<&tokio::sync::Mutex<Session>>) -> Request<Body> {
        let mut request = self.request(session, whole(self.body.clone())).await;
        request.headers_mut().remove(&LAST_EVENT);
        request
    }

    /// What was in flight gets an error of its own id, never just a cut.
    fn interrupted(&self) -> Response<Body> {
        match &self.messages {
            Some(messages) => messages.errors(INTERRUPTED).map_or_else(answer::accepted, answer::json),
            None => answer::text(StatusCode::BAD_GATEWAY, "the server was restarted\n"),
        }
    }

    fn refused(&self, why: &str) -> Response<Body> {
        answer::refused(self.messages.as_ref(), self.wants_events(), why)
    }

    async fn relay(
        self,
        up: Arc<Up>,
        mut response: Response<Incoming>,
        lease: Lease,
        session: Option<(String, SharedSession)>,
    ) -> Response<Body> {
        for name in NOT_FORWARDED {
            response.headers_mut().remove(name);
        }
        let session = match session {
            Some((id, session)) => Some((id, session)),
            None => self.begin_session(&up, &response),
        };
        if let Some((id, _)) = &session
            && response.headers().contains_key(SESSION)
            && let Ok(id) = HeaderValue::from_str(id)
        {
            response.headers_mut().insert(SESSION, id);
        }
        let events = is_kind(response.headers(), "text/event-stream");
        let (head, body) = response.into_parts();
        if events && head.status == StatusCode::OK {
            let purpose = match (&self.messages, self.wants_events()) {
                (Some(messages), _) if messages.is_request("subscriptions/listen") => Purpose::Listen,
                (None, true) => Purpose::Get,
                (_, _) => Purpose::Answer,
            };
            let relay = Relay { exchange: self, session: session.map(|(_, session)| session), purpose };
            return Response::from_parts(without_length(head), stream::open(relay, up, body, lease));
        }
        if self.messages.as_ref().is_some_and(|messages| !messages.open_ids().is_empty()) {
            return self.collect(head, body, lease, session.map(|(_, session)| session)).await;
        }
        Response::from_parts(head, body::plain(body, lease))
    }

    /// An answer in JSON is read first, so that a worker's end in the middle of it is an error and
    /// not a cut; a large one streams.
    async fn collect(
        self,
        head: hyper::http::response::Parts,
        body: Incoming,
        lease: Lease,
        session: Option<SharedSession>,
    ) -> Response<Body> {
        let large = hyper::body::Body::size_hint(&body).lower() > WHOLE as u64;
        if large {
            return Response::from_parts(head, body::plain(body, lease));
        }
        let Ok(collected) = body.collect().await else {
            return self.interrupted();
        };
        lease.give_back();
        let bytes = collected.to_bytes();
        if let Some(session) = session
            && self.messages.as_ref().is_some_and(|messages| messages.is_request("initialize"))
            && let Ok(answer) = serde_json::from_slice::<Value>(&bytes)
        {
            let mut session = session.lock().await;
            session.agree(&answer["result"]);
            self.door.sessions.save(&session);
        }
        Response::from_parts(head, whole(bytes))
    }

    /// The worker began a session: the client gets an id of ours for it, which outlives the worker.
    fn begin_session(&self, up: &Up, response: &Response<Incoming>) -> Option<(String, SharedSession)> {
        let asked = self.messages.as_ref().is_some_and(|messages| messages.is_request("initialize"));
        if !asked || !response.status().is_success() || !self.door.keeps_sessions {
            return None;
        }
        let worker_id = response.headers().get(&SESSION)?.to_str().ok()?.to_owned();
        let params = serde_json::from_slice::<Value>(&self.body).ok()?["params"].clone();
        let path = self.head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let id = super::mint().ok()?;
        let session = Session::begin(id.clone(), path, worker_id, up.epoch, params);
        self.connection.used_by(&id);
        let session = self.door.sessions.keep(session);
        Some((id, session))
    }
}

fn is_kept(message: &Message) -> bool {
    const KEPT: [&str; 4] =
        ["notifications/initialized", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
    match message {
        Message::Request { method, .. } | Message::Notification { method } => KEPT.contains(&method.as_str()),
        Message::Answer { .. } => false,
    }
}

/// Whether a body is of this kind.
fn is_kind(headers: &HeaderMap, kind: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok());
    given.is_some_and(|given| given.trim_start().to_ascii_lowercase().starts_with(kind))
}

fn without_length(mut head: hyper::http::response::Parts) -> hyper::http::response::Parts {
    head.headers.remove(header::CONTENT_LENGTH);
    head
}

/// The worker knows its own event ids only; one of a dead worker begins the stream anew.
fn restore_last_event(headers: &mut HeaderMap, session: &Session) {
    let Some(id) = headers.remove(&LAST_EVENT) else {
        return;
    };
    let known = id.to_str().ok().and_then(EventId::read).filter(|id| id.epoch == session.epoch);
    if let Some(inner) = known.and_then(|id| HeaderValue::from_str(&id.inner).ok()) {
        headers.insert(LAST_EVENT, inner);
    }
}
