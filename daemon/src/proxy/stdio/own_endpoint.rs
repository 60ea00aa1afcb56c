//! Messages for a server that is not shared: its one client initializes it, and may be asked by it.

use std::sync::Arc;

use super::body::StdioBody;
use super::endpoint::{JSON, Responded, events, json, text};
use super::hello::Hello;
use super::parts::{Parts, Role};
use super::server::{Era, Forwarded, Lost, StdioServer, Takes, answer_of};
use crate::proxy::http::request::Request;
use crate::proxy::http::response::ResponseHead;

impl StdioServer {
    pub(super) async fn post_to_own(
        self: &Arc<Self>,
        request: &Request,
        session: Option<&str>,
        parts: &Parts<'_>,
    ) -> Result<Responded, Lost> {
        match (parts.role(), session) {
            (Role::Request, None) if parts.method() == "initialize" => self.initialize(parts).await,
            (Role::Request, _) => self.call_own(request, session, parts).await,
            (Role::Notification, _) => {
                self.notify(session, parts).await?;
                Ok(text(202, ""))
            }
            (Role::Answer, _) => {
                self.input.send(parts.rewrite(&[])).await?;
                Ok(text(202, ""))
            }
        }
    }

    /// The client's own `initialize`. Without a result there is no session.
    async fn initialize(self: &Arc<Self>, parts: &Parts<'_>) -> Result<Responded, Lost> {
        let (inbox, _ticket) = match self.forward(None, parts, Takes::Answer).await? {
            Forwarded::Answer(message) => return Ok(json(200, message)),
            Forwarded::Call(inbox, ticket) => (inbox, ticket),
        };
        let answer = answer_of(&inbox).await?;
        let hello = Hello::read(&answer.message);
        let response = json(200, answer.message);
        let Ok(hello) = hello else { return Ok(response) };
        self.era.send_replace(Some(Ok(Era::Sessions(Arc::new(hello)))));
        Ok(self.with_session(response))
    }

    async fn call_own(
        self: &Arc<Self>,
        request: &Request,
        session: Option<&str>,
        parts: &Parts<'_>,
    ) -> Result<Responded, Lost> {
        let takes = if request.head.accepts_events() { Takes::Events } else { Takes::Answer };
        let (inbox, ticket) = match self.forward(session, parts, takes).await? {
            Forwarded::Answer(message) => return Ok(json(200, message)),
            Forwarded::Call(inbox, ticket) => (inbox, ticket),
        };
        if takes == Takes::Events && inbox.begins_with_event().await {
            return Ok((events(), StdioBody::call(inbox, ticket)));
        }
        let answer = answer_of(&inbox).await?;
        Ok((ResponseHead::of_mcpd(200, JSON, Some(answer.message.len())), StdioBody::whole(answer)))
    }
}
