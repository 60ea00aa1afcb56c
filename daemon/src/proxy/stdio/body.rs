//! The body of a response to a request for a server that speaks stdio.

use std::sync::Arc;

use super::inbox::{Answer, End, Inbox, Received};
use super::server::{CallTicket, StreamTicket};
use crate::proxy::http::worker_connection::BrokenOff;
use crate::proxy::mcp::sse::push_event;

pub struct StdioBody(Content);

enum Content {
    Whole(Answer),
    /// Until the answer comes.
    Call {
        inbox: Arc<Inbox>,
        _ticket: CallTicket,
    },
    /// Until the session ends, or the server does.
    Stream {
        inbox: Arc<Inbox>,
        _ticket: StreamTicket,
    },
    Done,
}

impl StdioBody {
    pub fn whole(answer: Answer) -> Self {
        Self(Content::Whole(answer))
    }

    pub fn call(inbox: Arc<Inbox>, ticket: CallTicket) -> Self {
        Self(Content::Call { inbox, _ticket: ticket })
    }

    pub fn stream(inbox: Arc<Inbox>, ticket: StreamTicket) -> Self {
        Self(Content::Stream { inbox, _ticket: ticket })
    }

    pub fn is_done(&self) -> bool {
        matches!(self.0, Content::Done)
    }

    /// Appends what comes next.
    ///
    /// # Errors
    /// When the server is gone and nothing more will come.
    pub async fn read(&mut self, out: &mut Vec<u8>) -> Result<(), BrokenOff> {
        let inbox = match &self.0 {
            Content::Whole(answer) => {
                out.extend_from_slice(&answer.message);
                self.0 = Content::Done;
                return Ok(());
            }
            Content::Done => return Ok(()),
            Content::Call { inbox, .. } | Content::Stream { inbox, .. } => inbox,
        };
        match inbox.next().await {
            Received::Event(message) => push_event(out, &message),
            Received::Answer(answer) => {
                push_event(out, &answer.message);
                self.0 = Content::Done;
            }
            Received::Ended(End::Finished) => self.0 = Content::Done,
            Received::Ended(End::Broken) => return Err(BrokenOff),
        }
        Ok(())
    }
}
