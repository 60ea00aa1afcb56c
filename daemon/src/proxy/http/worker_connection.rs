//! A connection to a worker's private port.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::chunked::Malformed;
use super::framing::{BodyLength, Decoder};
use super::head::{BadHead, HeadSearch};
use super::incoming::WHOLE;
use super::request::{Method, Request};
use super::response::{BadResponse, Kind, ResponseHead};
use super::socket::{Outgoing, READ, Socket};
use super::worker_host::replace_host;
use crate::proxy::budget::{Budget, Share};
use crate::proxy::mcp::sessions::SharedSession;
use crate::proxy::stdio::StdioBody;
use crate::proxy::upstream::{InFlightGuard, Lease};
use crate::worker_listener::WorkerListener;

/// Bodies up to this many bytes are copied behind their head and written with it.
pub const COPIED: usize = 16 * 1024;

pub struct WorkerConnection {
    pub socket: Socket,
}

/// A request as bytes, on their way to the worker.
pub struct Wire<'a> {
    head: Outgoing,
    body: &'a [u8],
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The worker had closed the connection before the request arrived.
    #[error("the worker closed the connection before it read the request")]
    Unread,
    #[error("the connection to the worker broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the worker's response can't be forwarded: {0}")]
    Head(#[from] BadHead),
    #[error("the worker's response can't be forwarded: {0}")]
    Bad(#[from] BadResponse),
}

impl CallError {
    /// Linux resets a connection that is closed with unread data, also when the process was killed, and ends the others
    /// with FIN (`tcp_close`).
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Broken(error) if error.kind() == io::ErrorKind::ConnectionReset)
    }
}

impl<'a> Wire<'a> {
    /// A request that is kept whole, of a session that mcpd keeps or of none.
    /// `host` is the worker's own, if it gets that instead of the client's.
    pub fn of(request: &'a Request, session: Option<&SharedSession>, host: Option<&str>) -> Self {
        let length = request.head.body.of_whole(&request.body);
        let head = request.head_for(session.map(|session| session.lock()).as_deref(), length);
        let head = match host {
            Some(host) => replace_host(&head, host),
            None => head,
        };
        Self::new(head, &request.body)
    }

    pub fn new(mut head: Vec<u8>, body: &'a [u8]) -> Self {
        if body.len() > COPIED {
            return Self { head: head.into(), body };
        }
        head.extend_from_slice(body);
        Self { head: head.into(), body: &[] }
    }

    fn is_written(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }

    /// What is not written yet, in two parts.
    fn rest(&self) -> (&[u8], &[u8]) {
        (self.head.rest(), self.body)
    }

    /// As many bytes of the rest were written.
    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.rest().len());
        self.head.advance(of_head);
        self.body = &self.body[written - of_head..];
    }
}

impl WorkerConnection {
    /// # Errors
    /// Most likely no process listens.
    pub async fn open(listener: &Arc<WorkerListener>) -> io::Result<Self> {
        let stream = listener.connect().await.map_err(io::Error::other)?;
        Ok(Self { socket: Socket::new(stream) })
    }

    /// Whether the worker has left it open and silent.
    pub fn is_usable(&self) -> bool {
        let read = self.socket.stream.try_read(&mut [0]);
        self.socket.unread.is_empty()
            && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and waits for the head of its response; its body follows.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &mut self,
        mut wire: Wire<'_>,
        method: Method,
    ) -> Result<(ResponseHead, Sent), CallError> {
        let mut search = HeadSearch::default();
        let mut failure = None;
        loop {
            if let Some(head) = self.take_head(&mut search, method)? {
                return Ok((head, if wire.is_written() { Sent::Whole } else { Sent::Part }));
            }
            let is_writing = !wire.is_written() && failure.is_none();
            let (mut reader, mut writer) = self.socket.split();
            let (first, second) = wire.rest();
            tokio::select! {
                biased;
                result = writer.write_both(first, second), if is_writing => match result {
                    Ok(written) => wire.advance(written),
                    // It may have sent its response before it closed the connection.
                    Err(error) => failure = Some(error),
                },
                read = reader.fill() => match read {
                    Ok(1..) => {}
                    Ok(0) => return Err(self.ended(failure.unwrap_or(io::ErrorKind::UnexpectedEof.into()))),
                    Err(error) => return Err(self.ended(failure.unwrap_or(error))),
                },
            }
        }
    }

    /// The head of a response, if it has arrived; interim ones are dropped.
    ///
    /// # Errors
    /// When it can't be forwarded.
    pub fn take_head(
        &mut self,
        search: &mut HeadSearch,
        method: Method,
    ) -> Result<Option<ResponseHead>, CallError> {
        while let Some(length) = search.find(&self.socket.unread)? {
            let head = ResponseHead::parse(&self.socket.unread[..length], method)?;
            self.socket.unread.drain(..length);
            if !head.is_interim() {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    /// The connection ended before the response began. After a FIN, the kernel of a worker that has closed its socket
    /// resets the connection when the request arrives: it was not read. (The error is then `EPIPE`, `tcp_reset`.)
    fn ended(&self, error: io::Error) -> CallError {
        let pending = self.socket.stream.take_error().ok().flatten();
        let is_refused = pending.is_some_and(|pending| Errno::from_io_error(&pending) == Some(Errno::PIPE));
        if self.socket.unread.is_empty() && is_refused { CallError::Unread } else { error.into() }
    }
}

/// How much of a request its worker took before it responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Whole,
    Part,
}

/// A response, of which the head has arrived.
pub struct Response {
    pub head: ResponseHead,
    /// What was read of the body already, and the memory that it takes.
    pub begin: Vec<u8>,
    pub share: Share,
    pub body: WorkerBody,
}

/// The body of a response.
pub enum WorkerBody {
    Http(HttpBody),
    Stdio { body: StdioBody, _guard: InFlightGuard },
}

/// At its end the connection is given back; dropped before, it is closed.
pub struct HttpBody {
    /// `None` when it is complete.
    open: Option<(WorkerConnection, Lease)>,
    decoder: Decoder,
    is_reusable: bool,
}

/// What became of an attempt to read and to write.
pub enum Progress {
    Read(Result<(), BrokenOff>),
    /// How much was written.
    Written(io::Result<usize>),
}

/// The rest of a body will not come.
#[derive(Debug, thiserror::Error)]
#[error("the worker's response broke off")]
pub struct BrokenOff;

impl Response {
    pub fn new(head: ResponseHead, connection: WorkerConnection, lease: Lease, sent: Sent) -> Self {
        let decoder = Decoder::new(head.body);
        let is_reusable = head.keeps_alive && sent == Sent::Whole;
        let mut body = HttpBody { open: Some((connection, lease)), decoder, is_reusable };
        body.end_if_done();
        Self::of(head, WorkerBody::Http(body))
    }

    /// A response of which no more than the head was read.
    pub fn of(head: ResponseHead, body: WorkerBody) -> Self {
        Self { head, begin: vec![], share: Share::default(), body }
    }

    pub fn is_stream(&self) -> bool {
        self.head.kind == Kind::Events && self.head.status == 200
    }

    /// What a refusal says, as far as it is short; `None` if it broke off. What was read stays in the response.
    pub async fn read_refusal(&mut self) -> Option<&[u8]> {
        const LONGEST: usize = 16 * 1024;
        while !self.body.is_done() && self.begin.len() <= LONGEST {
            self.body.read(&mut self.begin).await.ok()?;
        }
        Some(&self.begin)
    }

    /// Reads the body to its end, unless it is too long to be kept: then it is passed on as it arrives.
    ///
    /// # Errors
    /// When it is not complete and nothing more will come.
    pub async fn read_whole(&mut self, budget: &Arc<Budget>) -> Result<(), BrokenOff> {
        self.share = Share::of(budget);
        let is_too_long = matches!(self.head.body, BodyLength::Known(length) if length > WHOLE as u64);
        while !is_too_long
            && !self.body.is_done()
            && self.begin.len() <= WHOLE
            && self.share.resize(self.begin.len() + READ)
        {
            self.body.read(&mut self.begin).await?;
        }
        Ok(())
    }
}

impl WorkerBody {
    /// Appends the bytes that arrive next.
    ///
    /// # Errors
    /// When the body is not complete and nothing more will come.
    pub async fn read(&mut self, out: &mut Vec<u8>) -> Result<(), BrokenOff> {
        match self {
            Self::Http(body) => body.read(out).await,
            Self::Stdio { body, .. } => body.read(out).await,
        }
    }

    /// The same, while `upload` is written, if there is any.
    pub async fn read_or_write(&mut self, out: &mut Vec<u8>, upload: &[u8]) -> Progress {
        match self {
            Self::Http(body) => body.read_or_write(out, upload).await,
            Self::Stdio { body, .. } => Progress::Read(body.read(out).await),
        }
    }

    pub fn is_done(&self) -> bool {
        match self {
            Self::Http(body) => body.open.is_none(),
            Self::Stdio { body, .. } => body.is_done(),
        }
    }
}

impl HttpBody {
    async fn read(&mut self, out: &mut Vec<u8>) -> Result<(), BrokenOff> {
        let Some((connection, _)) = &mut self.open else { return Ok(()) };
        let is_at_end = connection.socket.unread.is_empty() && {
            let read = connection.socket.fill().await;
            // A reset ends a body without a length as well; it is not complete then.
            !matches!(read, Ok(1..)) && (read.is_err() || !self.decoder.close())
        };
        if is_at_end {
            return Err(BrokenOff);
        }
        let unread = &mut connection.socket.unread;
        let used = self.decoder.decode(unread, out).map_err(|Malformed| BrokenOff)?;
        unread.drain(..used);
        if unread.is_empty() {
            // A client that reads slowly keeps no memory here.
            *unread = vec![];
        }
        self.end_if_done();
        Ok(())
    }

    async fn read_or_write(&mut self, out: &mut Vec<u8>, upload: &[u8]) -> Progress {
        if let Some((connection, _)) = &mut self.open
            && connection.socket.unread.is_empty()
            && !upload.is_empty()
        {
            let (mut reader, mut writer) = connection.socket.split();
            tokio::select! {
                read = reader.fill() => if matches!(read, Ok(0) | Err(_)) && !self.decoder.close() {
                    return Progress::Read(Err(BrokenOff));
                },
                written = writer.write(upload) => return Progress::Written(written),
            }
        }
        Progress::Read(self.read(out).await)
    }

    fn end_if_done(&mut self) {
        if self.decoder.is_done()
            && let Some((mut connection, (pool, _guard))) = self.open.take()
            && self.is_reusable
            && connection.socket.unread.is_empty()
        {
            connection.socket.unread = vec![];
            pool.put(connection);
        }
    }
}
