//! One request: refused, answered by mcpd, or forwarded (R-CLIENT-1, R-CLIENT-3).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde_json::Value;

use super::body::{Body, Upload, whole};
use super::headers::{
    LAST_EVENT, SESSION, accepts_anything, accepts_events, forget_connection, has_lost_coding, of_origin,
    restore_last_event,
};
use super::passing::Passing;
use super::payload::{self, BODY, Payload};
use super::pipe::Pipe;
use super::shutdown_path;
use super::upstream::{Live, SendError};
use crate::deadline::Deadline;
use crate::proxy::listener::Listener;
use crate::proxy::mcp::errors;
use crate::proxy::mcp::message::{INTERRUPTED, Message, Messages, SHUTTING_DOWN, error_for};
use crate::proxy::mcp::replay::{self, ReplayError};
use crate::proxy::mcp::session::{Epoch, EventId, Session};
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::mcp::sse::Event;
use crate::proxy::observe::registry::Connection;

/// A request to forward.
pub struct Exchange {
    pub listener: Arc<Listener>,
    pub connection: Arc<Connection>,
    /// For event streams on this connection.
    pub pipe: Pipe,
    /// The messages in its body, if it is JSON-RPC.
    pub messages: Option<Messages>,
    /// The body, if it was read completely.
    pub body: Bytes,
    /// The body, if it is JSON too large to be read before forwarding.
    passing: Option<Passing>,
    /// A `GET` for an event stream.
    pub wants_events: bool,
    /// A `GET` that may become one, because its client accepts anything.
    pub may_become_stream: bool,
    method: Method,
    uri: Uri,
    /// Without the session id. Moved into the request, unless it may be sent again.
    headers: HeaderMap,
}

/// The session of a request, with the id that the client uses.
pub type InSession = Option<(String, SharedSession)>;

/// The response to a request that is not forwarded, whatever the worker's state is.
fn refusal(listener: &Listener, request: &Request<Incoming>) -> Option<Response<Body>> {
    if let Err(refused) = listener.allowed.check(request.uri(), request.headers()) {
        return Some(errors::text(StatusCode::FORBIDDEN, format!("{refused}\n")));
    }
    if let Some(path) = &listener.shutdown_path
        && shutdown_path::is_requested(request.uri().path(), path)
    {
        let text = format!("only mcpd may request {path} (shutdown_path)\n");
        return Some(errors::text(StatusCode::FORBIDDEN, text));
    }
    if request.headers().get_all(&SESSION).iter().nth(1).is_some() {
        return Some(errors::text(StatusCode::BAD_REQUEST, "a request has one Mcp-Session-Id\n"));
    }
    if has_lost_coding(request.headers()) {
        let text = "mcpd understands no other transfer coding than chunked\n";
        return Some(errors::text(StatusCode::NOT_IMPLEMENTED, text));
    }
    (request.method() == Method::CONNECT)
        .then(|| errors::text(StatusCode::NOT_IMPLEMENTED, "mcpd forwards HTTP/1.1 only\n"))
}

/// Handles one request.
pub async fn answer(
    listener: Arc<Listener>,
    connection: Arc<Connection>,
    pipe: Pipe,
    request: Request<Incoming>,
) -> Response<Body> {
    connection.requests.fetch_add(1, Ordering::Relaxed);
    if let Some(refusal) = refusal(&listener, &request) {
        return refusal;
    }
    let (mut head, body) = request.into_parts();
    let payload = match payload::read(&head, body).await {
        Ok(payload) => payload,
        Err(response) => return response,
    };
    let (messages, body, passing) = match &payload {
        Payload::Whole(bytes) => (Messages::read(bytes), bytes.clone(), None),
        Payload::Passing(passing) => (None, Bytes::new(), Some(passing.clone())),
        Payload::Streaming(_) => (None, Bytes::new(), None),
    };
    let wants_events = head.method == Method::GET && accepts_events(&head.headers);
    let may_become_stream = head.method == Method::GET && accepts_anything(&head.headers);
    forget_connection(&mut head.headers);
    let method = head.method;
    let uri = of_origin(head.uri);
    let headers = head.headers;
    let mut exchange = Box::new(Exchange {
        listener,
        connection,
        pipe,
        messages,
        body,
        passing,
        wants_events,
        may_become_stream,
        method,
        uri,
        headers,
    });
    if exchange.listener.phase.borrow().is_shutting_down() {
        return exchange.refused(SHUTTING_DOWN.1).await;
    }
    exchange.forward(payload).await
}

impl Exchange {
    /// Forwards the request with the worker's session id.
    async fn forward(mut self: Box<Self>, payload: Payload) -> Response<Body> {
        let Some(id) = self.session_id() else {
            return self.send(payload, None).await;
        };
        self.connection.used_by(&id);
        let Some(session) = self.listener.sessions.get(&id) else {
            return self.send(payload, None).await;
        };
        if self.method == Method::DELETE {
            self.listener.sessions.forget(&id);
        }
        if !self.concerns_the_session() {
            return self.send(payload, Some((id, session))).await;
        }
        let payload = {
            let mut session = session.lock().await;
            match self.towards_the_worker(&mut session, payload) {
                Some(payload) => payload,
                // A response to a worker that has exited.
                None => return errors::accepted(),
            }
        };
        self.send(payload, Some((id, session))).await
    }

    fn session_id(&self) -> Option<String> {
        self.headers.get(&SESSION).and_then(|id| id.to_str().ok()).map(str::to_owned)
    }

    /// Whether it has messages that the session keeps, or responses to requests of the worker.
    fn concerns_the_session(&self) -> bool {
        let concerns = |message: &Message| matches!(message, Message::Answer { .. }) || is_kept(message);
        self.messages.as_ref().is_some_and(|messages| messages.all.iter().any(concerns))
    }

    /// Responses get the worker's own request id back; messages that a replay needs are kept.
    fn towards_the_worker(&mut self, session: &mut Session, payload: Payload) -> Option<Payload> {
        let value: Value = match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(_) => return Some(payload),
        };
        let (batch, all) = match value {
            Value::Array(all) => (true, all),
            one => (false, vec![one]),
        };
        let mut restored = vec![];
        let kept = self.messages.as_ref().is_some_and(|messages| messages.all.iter().any(is_kept));
        for message in all {
            session.note(&message);
            if message.get("method").is_none() {
                restored.extend(session.inward(&message))
            } else {
                restored.push(message)
            }
        }
        if kept {
            self.listener.sessions.save(session);
        }
        let value = match (batch, restored.len()) {
            (_, 0) => return None,
            (true, _) => Value::Array(restored),
            (false, _) => restored.remove(0),
        };
        self.body = value.to_string().into();
        self.headers.remove(header::CONTENT_LENGTH);
        Some(Payload::Whole(self.body.clone()))
    }

    async fn send(mut self: Box<Self>, payload: Payload, session: InSession) -> Response<Body> {
        let is_whole = matches!(payload, Payload::Whole(_));
        let mut body = payload.into_body();
        let deadline = Deadline::after(self.listener.hold);
        loop {
            let up = match self.listener.worker(deadline).await {
                Ok(up) => up,
                Err(why) => return self.refused(&why).await,
            };
            if let Some((id, session)) = &session {
                match replay::replay(&self.listener, &up, session).await {
                    Ok(()) => {
                        if let Some(error) = self.lost_answer(session).await {
                            return error;
                        }
                    }
                    Err(ReplayError::Refused(why)) => {
                        tracing::info!(worker = %self.listener.name, %why, "a session ended");
                        self.listener.sessions.forget(id);
                        return errors::text(StatusCode::NOT_FOUND, format!("{why}\n"));
                    }
                    Err(ReplayError::Broken(why)) if deadline.remaining().is_zero() => {
                        return self.refused(&why).await;
                    }
                    Err(ReplayError::Broken(_)) => {
                        self.wait_for_another(&up, deadline).await;
                        continue;
                    }
                }
            }
            let request = self.request(session.as_ref().map(|(_, session)| session.as_ref()), body).await;
            match up.send(request).await {
                Ok(response) => return self.relay(up, response, session).await,
                Err(SendError::NotSent(request, error)) => {
                    tracing::debug!(worker = %self.listener.name, %error, "waiting for the worker");
                    if deadline.remaining().is_zero() {
                        let why = format!("{}: {error}", self.listener.not_in_time());
                        return self.refused(&why).await;
                    }
                    body = self.take_back(*request);
                    self.wait_for_another(&up, deadline).await;
                }
                // A stream that has not begun can begin with the next worker.
                Err(SendError::Broken(_)) if self.wants_events && !deadline.remaining().is_zero() => {
                    body = Upload::Whole(Bytes::new());
                    self.wait_for_another(&up, deadline).await;
                }
                // The worker died and its kernel reset the connection: the request was not read to its end.
                Err(SendError::Broken(error))
                    if is_whole
                        && is_reset(&error)
                        && !deadline.remaining().is_zero()
                        && has_exited(&up).await =>
                {
                    tracing::debug!(worker = %self.listener.name, %error, "a request that was not read is sent again");
                    body = Upload::Whole(self.body.clone());
                }
                Err(SendError::Broken(error)) => {
                    tracing::info!(worker = %self.listener.name, %error, "a request was interrupted");
                    return self.interrupted().await;
                }
            }
        }
    }

    /// The error for a client that resumes a response whose worker has exited. Forwarded, it
    /// would be a second `GET` stream.
    async fn lost_answer(&self, session: &tokio::sync::Mutex<Session>) -> Option<Response<Body>> {
        let (epoch, request) = self.resumed()?;
        let error = Event::message(&error_for(&request, INTERRUPTED));
        (epoch != session.lock().await.epoch).then(|| errors::events(whole(error)))
    }

    /// The request whose response the client resumes, and the epoch of its worker.
    pub fn resumed(&self) -> Option<(Epoch, Value)> {
        let last = self.headers.get(&LAST_EVENT)?.to_str().ok().and_then(EventId::read)?;
        let request = last.request.filter(|_| self.wants_events)?;
        Some((last.epoch, request))
    }

    /// The worker is gone, but the supervisor has not published it yet.
    async fn wait_for_another(&self, up: &Live, deadline: Deadline) {
        let soon = deadline.at_most(Duration::from_millis(50));
        let _ = soon.wait(up.detach.cancelled()).await;
    }

    async fn request(
        &mut self,
        session: Option<&tokio::sync::Mutex<Session>>,
        body: Upload,
    ) -> Request<Upload> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() =
            if self.may_be_sent_again() { self.headers.clone() } else { std::mem::take(&mut self.headers) };
        if let Some(session) = session {
            let session = session.lock().await;
            if let Ok(id) = HeaderValue::from_str(&session.worker_id) {
                request.headers_mut().insert(SESSION, id);
            }
            restore_last_event(request.headers_mut(), &session);
        }
        request
    }

    /// Long-lived streams are attached again; a request that its worker never read is sent to the next one.
    fn may_be_sent_again(&self) -> bool {
        !self.body.is_empty()
            || self.wants_events
            || self.may_become_stream
            || self.is_request("subscriptions/listen")
    }

    /// Takes the body back from a request that could not be sent.
    fn take_back(&mut self, request: Request<Upload>) -> Upload {
        let (head, body) = request.into_parts();
        if !self.may_be_sent_again() {
            self.headers = head.headers;
        }
        body
    }

    /// The same request for the next worker; its stream begins again.
    pub async fn again(&mut self, session: Option<&tokio::sync::Mutex<Session>>) -> Request<Upload> {
        let mut request = self.request(session, Upload::Whole(self.body.clone())).await;
        request.headers_mut().remove(&LAST_EVENT);
        request
    }

    /// Whether it is one request with this method.
    pub fn is_request(&self, method: &str) -> bool {
        self.messages.as_ref().is_some_and(|messages| messages.is_request(method))
    }

    /// The requested path.
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// The messages that the scanner has found so far.
    pub fn update_messages(&mut self) {
        if let Some(passing) = &self.passing {
            self.messages = passing.messages();
        }
    }

    /// Reads the rest of the body first.
    async fn read_rest(&mut self) {
        if let Some(passing) = self.passing.take() {
            passing.finish(Deadline::after(BODY)).await;
            self.messages = passing.messages();
        }
    }

    /// The error for a request in flight, with its own id.
    pub async fn interrupted(&mut self) -> Response<Body> {
        self.read_rest().await;
        match &self.messages {
            Some(messages) => messages.errors(INTERRUPTED).map_or_else(errors::accepted, errors::json),
            None => errors::text(StatusCode::BAD_GATEWAY, "the server was restarted\n"),
        }
    }

    async fn refused(&mut self, why: &str) -> Response<Body> {
        self.read_rest().await;
        errors::refused(self.messages.as_ref(), self.wants_events, why)
    }
}

/// Linux resets a connection that is closed with unread data, also when the process was killed, and ends the others
/// with FIN (`tcp_close`).
fn is_reset(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| source.kind() == std::io::ErrorKind::ConnectionReset)
}

/// Whether this process of the worker has exited: a living server may reset a connection for reasons of its own.
async fn has_exited(up: &Live) -> bool {
    const NOTICED_WITHIN: Duration = Duration::from_secs(1);
    Deadline::after(NOTICED_WITHIN).wait(up.detach.cancelled()).await.is_ok()
}

fn is_kept(message: &Message) -> bool {
    const KEPT: [&str; 4] =
        ["notifications/initialized", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
    match message {
        Message::Request { method, .. } | Message::Notification { method } => KEPT.contains(&method.as_str()),
        Message::Answer { .. } => false,
    }
}
