//! Relays the response of a worker to the client.

use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use hyper::header::HeaderValue;
use hyper::http::response::Parts;
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::body::{Body, whole};
use super::exchange::{Exchange, InSession};
use super::headers::{SESSION, forget_connection, has_lost_coding, is_kind, without_length};
use super::link::WorkerBody;
use super::payload::{Pieces, WHOLE};
use super::upstream::Live;
use crate::proxy::mcp::errors;
use crate::proxy::mcp::session::Session;
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::mcp::stream::{self, Purpose, Relay};

impl Exchange {
    /// Relays a response.
    pub async fn relay(
        mut self: Box<Self>,
        up: Arc<Live>,
        mut response: Response<WorkerBody>,
        session: InSession,
    ) -> Response<Body> {
        self.update_messages();
        if has_lost_coding(response.headers()) {
            let text = "the server uses another transfer coding than chunked\n";
            return errors::text(StatusCode::BAD_GATEWAY, text);
        }
        forget_connection(response.headers_mut());
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
        let session = session.map(|(_, session)| session);
        if events && head.status == StatusCode::OK {
            self.wants_events |= self.may_become_stream;
            let purpose = match (&self.messages, self.wants_events) {
                (Some(_), _) if self.is_request("subscriptions/listen") => Purpose::Listen,
                // The rest of a response: only GET and listen streams are attached to the next worker.
                (None, true) if session.is_some() && self.resumed().is_some() => Purpose::Answer,
                (None, true) => Purpose::Get,
                (_, _) => Purpose::Answer,
            };
            let pipe = self.pipe.clone();
            let relay = Relay { exchange: self, session, purpose, undelivered: vec![] };
            return Response::from_parts(without_length(head), stream::open(&pipe, relay, up, body));
        }
        if self.messages.as_ref().is_some_and(|messages| !messages.open_ids().is_empty()) {
            return self.collect(head, body, session).await;
        }
        Response::from_parts(head, Body::Worker(body))
    }

    /// A JSON response is read completely first, so that a worker that exits in the middle of it causes an error
    /// and not a cut; a large one is streamed.
    async fn collect(
        mut self: Box<Self>,
        head: Parts,
        body: WorkerBody,
        session: Option<SharedSession>,
    ) -> Response<Body> {
        if body.size_hint().lower() > WHOLE as u64 {
            return Response::from_parts(head, Body::Worker(body));
        }
        let bytes = match read(body).await {
            Ok(Read::Whole(bytes)) => bytes,
            Ok(Read::Part(begin, rest)) => {
                return Response::from_parts(head, Body::Continued(begin, *rest));
            }
            Err(_) => return self.interrupted().await,
        };
        if let Some(session) = session
            && self.is_request("initialize")
            && let Ok(answer) = serde_json::from_slice::<Value>(&bytes)
        {
            let mut session = session.lock().await;
            session.agree(&answer["result"]);
            self.listener.sessions.save(&session);
        }
        Response::from_parts(head, whole(bytes))
    }

    /// The worker began a session: the client gets mcpd's id for it, which outlives the worker.
    fn begin_session(&self, up: &Live, response: &Response<WorkerBody>) -> InSession {
        if !self.is_request("initialize") || !response.status().is_success() || !self.listener.keeps_sessions
        {
            return None;
        }
        let worker_id = response.headers().get(&SESSION)?.to_str().ok()?.to_owned();
        let params = serde_json::from_slice::<Value>(&self.body).ok()?["params"].clone();
        let id = crate::proxy::mint().ok()?;
        let session = Session::begin(id.clone(), self.path().to_owned(), worker_id, up.epoch, params);
        self.connection.used_by(&id);
        let session = self.listener.sessions.keep(session);
        Some((id, session))
    }
}

/// What was read of a body.
enum Read {
    Whole(Bytes),
    /// The beginning of a body that is larger than [`WHOLE`].
    Part(Bytes, Box<WorkerBody>),
}

/// Reads a body to its end, or until it is too large. Nearly all arrive in one piece, which is not copied.
async fn read(mut body: WorkerBody) -> Result<Read, hyper::Error> {
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        pieces.add(frame?.into_data().unwrap_or_default());
        if pieces.length() > WHOLE {
            return Ok(Read::Part(pieces.join(), Box::new(body)));
        }
    }
    Ok(Read::Whole(pieces.join()))
}
