//! The body of a request: read before it is forwarded if it is JSON, else streamed (R-CLIENT-1).

use super::chunked::{LAST_CHUNK, Malformed, push_chunk};
use super::client::{BodyError, Client};
use super::framing::{BodyLength, Decoder};
use super::reply::Reply;
use super::request::{Method, Request, RequestHead};
use super::socket::Outgoing;
use crate::proxy::budget::Share;
use crate::proxy::listener::Listener;
use crate::proxy::mcp::message::Messages;
use crate::proxy::mcp::scan::Scanner;

/// Limit in bytes for JSON that is read before forwarding; larger bodies stream through a scanner, as all do while the
/// budget is used up.
pub const WHOLE: usize = 4 * 1024 * 1024;
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A body that is forwarded as it arrives.
pub struct Upload {
    /// As the worker gets it.
    pub length: BodyLength,
    /// On its way to the worker.
    pub out: Outgoing,
    decoder: Decoder,
    /// What was read before its size was known.
    begin: Vec<u8>,
    /// Finds the id of a JSON-RPC message.
    scanner: Option<Scanner>,
    is_ended: bool,
}

/// Why a request is not forwarded.
pub enum NotRead {
    Gone,
    Reply(Reply),
}

impl Upload {
    /// Takes what has arrived, once the worker has taken what came before.
    ///
    /// # Errors
    /// When the chunks are malformed.
    pub fn advance(&mut self, client: &mut Client) -> Result<(), Malformed> {
        if !self.out.is_empty() || self.is_ended {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.begin);
        let used = self.decoder.decode(&client.socket.unread, &mut bytes)?;
        client.use_unread(used);
        self.scan(&bytes);
        self.is_ended = self.decoder.is_done();
        let out = self.out.buffer();
        if self.length != BodyLength::Chunked {
            out.append(&mut bytes);
            return Ok(());
        }
        push_chunk(out, &bytes);
        if self.is_ended {
            out.extend_from_slice(LAST_CHUNK);
        }
        Ok(())
    }

    /// Whether the worker has taken all that arrived, and more is to come.
    pub fn wants_more(&self) -> bool {
        self.out.is_empty() && !self.is_ended
    }

    /// Whether the worker has taken all of it.
    pub fn is_done(&self) -> bool {
        self.out.is_empty() && self.is_ended
    }

    fn scan(&mut self, bytes: &[u8]) {
        if let Some(scanner) = self.scanner.as_mut().filter(|scanner| !scanner.is_done()) {
            scanner.push(bytes);
        }
    }

    /// The messages found so far.
    pub fn messages(&self) -> Option<Messages> {
        self.scanner.as_ref().and_then(Scanner::messages)
    }

    /// Reads what the worker did not take, and finds the messages: only then does the client read its response, and
    /// the id may be at the end.
    pub async fn finish(&mut self, client: &mut Client, listener: &Listener) -> Option<Messages> {
        self.out = Outgoing::default();
        while self.scanner.is_some() && !self.is_ended {
            let mut bytes = std::mem::take(&mut self.begin);
            let read = client.read_body(listener, &mut self.decoder, &mut bytes, |kept| kept == 0).await;
            self.scan(&bytes);
            self.is_ended = self.decoder.is_done();
            // For a slower client, what is known by then has to do.
            if read.is_err() {
                break;
            }
        }
        self.messages()
    }
}

/// Reads the body as far as necessary before forwarding.
///
/// # Errors
/// See [`NotRead`].
pub async fn read(
    listener: &Listener,
    client: &mut Client,
    head: RequestHead,
) -> Result<(Request, Option<Box<Upload>>), NotRead> {
    let mut decoder = Decoder::new(head.body);
    let mut body = vec![];
    let mut share = Share::of(&listener.budget);
    if head.expects_continue && client.socket.unread.is_empty() && !decoder.is_done() {
        client.send(listener, CONTINUE).await.map_err(|_| NotRead::Gone)?;
    }
    let is_json = head.method == Method::Post && head.is_json;
    let longest = listener.longest_whole();
    let is_too_long = matches!(head.body, BodyLength::Known(length) if length > longest as u64);
    if let BodyLength::Known(length) = head.body
        && length <= client.socket.unread.len() as u64
    {
        // It came with its head, so that it is whole whether or not the budget has room.
        body = client.take_unread(length as usize);
        let _ = share.resize(body.len());
        decoder = Decoder::new(BodyLength::None);
    } else if is_json && !is_too_long {
        let keep = |bytes| bytes <= longest && share.resize(bytes);
        match client.read_body(listener, &mut decoder, &mut body, keep).await {
            Ok(()) => {}
            Err(BodyError::Gone) => return Err(NotRead::Gone),
            Err(BodyError::Malformed) => return Err(refuse(400, "the body has malformed chunks\n")),
            Err(BodyError::TooSlow) => return Err(refuse(408, "the body did not come in time\n")),
        }
    }
    if decoder.is_done() {
        let messages = if is_json { Messages::read(&body) } else { None };
        return Ok((Request { head, body, messages, share }, None));
    }
    let scanner = is_json.then(Scanner::default);
    let length = head.body;
    let upload = Upload { length, out: Outgoing::default(), decoder, begin: body, scanner, is_ended: false };
    // Boxed, as it is rare: requests in flight own little memory.
    let upload = Box::new(upload);
    Ok((Request { head, body: vec![], messages: None, share: Share::default() }, Some(upload)))
}

fn refuse(status: u16, text: &'static str) -> NotRead {
    NotRead::Reply(Reply::text(status, text))
}
