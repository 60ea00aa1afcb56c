//! What a request to the MCP endpoint of a server that speaks stdio gets: mcpd is the HTTP server here.

use std::sync::Arc;

use serde_json::{Value, json};

use super::body::StdioBody;
use super::hello::Hello;
use super::inbox::Answer;
use super::parts::{Parts, Role, value};
use super::router::Sharing;
use super::server::{Era, Forwarded, Lost, StdioServer, Takes, answer_of};
use crate::proxy::budget::Share;
use crate::proxy::http::request::{Method, Request};
use crate::proxy::http::response::ResponseHead;
use crate::proxy::mcp::message::error_for;

pub(super) const JSON: &str = "application/json";
/// "Parse error" and "Invalid Request", JSON-RPC 2.0, section 5.1.
const PARSE_ERROR: (i64, &str) = (-32700, "the body is no JSON-RPC message");
const NO_BATCH: (i64, &str) =
    (-32600, "mcpd takes one message a request: MCP has no batches since 2025-06-18");
const NO_SESSION: (i64, &str) = (-32001, "Session not found");

/// The response to a request, and its body.
pub type Responded = (ResponseHead, StdioBody);

impl StdioServer {
    /// # Errors
    /// See [`Lost`].
    pub async fn respond(
        self: &Arc<Self>,
        request: &Request,
        session: Option<&str>,
    ) -> Result<Responded, Lost> {
        if !matches!(request.head.path(), "/mcp" | "/mcp/") {
            return Ok(text(404, "the MCP endpoint of this server is /mcp\n"));
        }
        if let Some(session) = session
            && !self.knows_session(session)
        {
            return Ok(refusal(404, NO_SESSION));
        }
        match (request.head.method, session) {
            (Method::Post, _) => self.post(request, session).await,
            (Method::Get, Some(session)) if request.head.may_get_events() => {
                let (inbox, ticket) = self.open_stream(session)?;
                Ok((events(), StdioBody::stream(inbox, ticket)))
            }
            (Method::Delete, Some(session)) => {
                self.close_session(session);
                Ok(text(200, ""))
            }
            (Method::Get | Method::Delete, None) => Ok(text(400, "a session is needed: initialize first\n")),
            _ => Ok(text(405, "the MCP endpoint takes POST, GET for an event stream, and DELETE\n")),
        }
    }

    async fn post(self: &Arc<Self>, request: &Request, session: Option<&str>) -> Result<Responded, Lost> {
        if !request.head.is_json {
            return Ok(text(415, "a message is application/json\n"));
        }
        if request.messages.as_ref().is_some_and(|messages| messages.batch) {
            return Ok(refusal(400, NO_BATCH));
        }
        let Some(parts) = Parts::read(&request.body) else { return Ok(refusal(400, PARSE_ERROR)) };
        if self.sharing() == Sharing::Own {
            return self.post_to_own(request, session, &parts).await;
        }
        match (parts.role(), parts.method(), self.era()) {
            (Role::Request, "initialize", Some(Era::Sessions(hello))) => {
                let wanted = parts.details().protocol_version;
                let result = hello.result_for(wanted.as_deref());
                Ok(self.begin_session(&json!({ "jsonrpc": "2.0", "id": id_of(&parts), "result": result })))
            }
            (Role::Request, _, Some(Era::Sessions(_))) if let Some(version) = parts.own_version() => {
                Ok(json(400, Hello::refusal(&id_of(&parts), &version).to_string().into_bytes()))
            }
            (Role::Request, ..) => self.call(request, session, &parts).await,
            (Role::Notification, ..) => {
                self.notify(session, &parts).await?;
                Ok(text(202, ""))
            }
            // A shared server asks its clients nothing.
            (Role::Answer, ..) => Ok(text(202, "")),
        }
    }

    fn begin_session(&self, answer: &Value) -> Responded {
        self.with_session(json(200, answer.to_string().into_bytes()))
    }

    /// The response that begins a session.
    pub(super) fn with_session(&self, (mut head, body): Responded) -> Responded {
        let Ok(id) = crate::proxy::mint() else { return text(500, "no random bytes for a session\n") };
        self.open_session(&id);
        head.session = Some(id);
        (head, body)
    }

    async fn call(
        self: &Arc<Self>,
        request: &Request,
        session: Option<&str>,
        parts: &Parts<'_>,
    ) -> Result<Responded, Lost> {
        let (inbox, ticket) = match self.forward(session, parts, Takes::Answer).await? {
            Forwarded::Answer(message) => return Ok(json(200, message)),
            Forwarded::Call(inbox, ticket) => (inbox, ticket),
        };
        // Only these get more than an answer.
        let is_stream = parts.mentions("progressToken") || parts.method() == "subscriptions/listen";
        if is_stream && request.head.accepts_events() {
            return Ok((events(), StdioBody::call(inbox, ticket)));
        }
        let answer = answer_of(&inbox).await?;
        Ok((ResponseHead::of_mcpd(200, JSON, Some(answer.message.len())), StdioBody::whole(answer)))
    }
}

fn id_of(parts: &Parts<'_>) -> Value {
    parts.id().map(value).unwrap_or_default()
}

pub(super) fn events() -> ResponseHead {
    ResponseHead::of_mcpd(200, "text/event-stream", None)
}

pub(super) fn json(status: u16, message: Vec<u8>) -> Responded {
    whole(status, JSON, message)
}

pub(super) fn text(status: u16, text: &str) -> Responded {
    whole(status, "text/plain; charset=utf-8", text.as_bytes().to_vec())
}

fn whole(status: u16, content_type: &str, message: Vec<u8>) -> Responded {
    let head = ResponseHead::of_mcpd(status, content_type, Some(message.len()));
    (head, StdioBody::whole(Answer { message, share: Share::default() }))
}

/// An error for no request in particular.
fn refusal(status: u16, error: (i64, &str)) -> Responded {
    json(status, error_for(&Value::Null, error).to_string().into_bytes())
}
