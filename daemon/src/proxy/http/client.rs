//! One client's connection: its requests, and the bytes for it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::chunked::Malformed;
use super::framing::Decoder;
use super::head::HeadSearch;
use super::reply::Reply;
use super::request::{Refusal, RequestHead};
use super::response::Next;
use super::socket::Socket;
use crate::deadline::{self, Deadline};
use crate::proxy::listener::{Listener, ProxyPhase};
use crate::proxy::observe::registry::Connection;

/// Seconds for a head, from its first byte.
const HEAD: u32 = 10;
/// Seconds for which a connection may be idle between two requests; `Keep-Alive` says it.
const IDLE: u32 = 75;
/// Seconds for a body that is read before it is forwarded.
const BODY: u32 = 30;
/// Limit, in a pause, for a client that has just connected or is sending its request.
const LAST_CHANCE: Duration = Duration::from_millis(250);
/// Further requests are read, in bytes, while one is served: only so the end of a connection is noticed.
pub const AHEAD: usize = 4 * 1024;
/// Limits for what a client still sends although its connection is about to be closed.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

pub struct Client {
    pub socket: Socket,
    pub connection: Arc<Connection>,
    /// The origin of the page that sent the request.
    pub origin: Option<String>,
    search: HeadSearch,
}

/// What comes after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Perhaps another request.
    NextRequest,
    /// The connection is closed.
    Close,
    /// It is closed as soon as the client has what it was sent: the client may still be sending.
    Linger,
}

/// The next request.
pub enum Arrival {
    Request(RequestHead),
    Refused(Refusal),
    /// The head did not arrive in time.
    TooSlow,
    /// The client has disconnected, or mcpd closes the connection.
    Closed,
}

/// The client has disconnected, or mcpd closes all connections by force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Why work for a client is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// See [`Gone`].
    Gone,
    /// The limit of the connection has passed.
    Overdue,
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    Gone,
    Malformed,
    TooSlow,
}

impl Client {
    pub fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { socket: Socket::new(stream), connection, origin: None, search: HeadSearch::default() }
    }

    /// Waits for the head of the next request.
    pub async fn next_head(&mut self, listener: &Listener) -> Arrival {
        let is_first = self.connection.requests.load(Ordering::Relaxed) == 0;
        self.connection.set_limit(if is_first { HEAD } else { IDLE });
        let mut last_chance = None;
        let mut has_begun = false;
        loop {
            if let Some(arrival) = self.take_head(listener) {
                self.connection.lift_limit();
                return arrival;
            }
            let is_idle = self.socket.unread.is_empty();
            if !is_idle && !std::mem::replace(&mut has_begun, true) {
                self.connection.set_limit(HEAD);
            }
            match &*listener.phase.borrow() {
                ProxyPhase::Open => {}
                ProxyPhase::Pausing if is_first || !is_idle => {
                    last_chance.get_or_insert_with(|| deadline::now() + LAST_CHANCE);
                }
                ProxyPhase::ShuttingDown if is_first || !is_idle => {}
                // Bytes that are already here are read first: a request that was sent is not lost.
                ProxyPhase::Pausing | ProxyPhase::ShuttingDown | ProxyPhase::Notify(_) => {
                    last_chance.get_or_insert_with(deadline::now);
                }
            }
            tokio::select! {
                biased;
                read = self.socket.fill() => match read {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Arrival::Closed,
                },
                () = self.connection.changed() => {
                    if listener.forced.is_cancelled() {
                        return Arrival::Closed;
                    }
                    if self.connection.is_overdue() {
                        return if is_idle { Arrival::Closed } else { Arrival::TooSlow };
                    }
                }
                () = until_past(last_chance) => return Arrival::Closed,
            }
        }
    }

    fn take_head(&mut self, listener: &Listener) -> Option<Arrival> {
        let unread = &mut self.socket.unread;
        if unread.is_empty() {
            return None;
        }
        // RFC 9112, section 2.2.
        while unread.starts_with(b"\r\n") {
            unread.drain(..2);
            self.search.restart();
        }
        let length = match self.search.find(unread) {
            Ok(length) => length?,
            Err(error) => return Some(Arrival::Refused(error.into())),
        };
        let parsed = RequestHead::parse(&unread[..length], &listener.allowed);
        self.origin = parsed.as_ref().ok().and_then(|head| head.origin.clone());
        self.use_unread(length);
        Some(parsed.map_or_else(Arrival::Refused, Arrival::Request))
    }

    /// Forgets bytes that were used; an idle connection owns no buffer.
    pub fn use_unread(&mut self, length: usize) {
        let unread = &mut self.socket.unread;
        if length == unread.len() { *unread = vec![] } else { drop(unread.drain(..length)) }
    }

    /// The next bytes, which are here.
    pub fn take_unread(&mut self, length: usize) -> Vec<u8> {
        let rest = self.socket.unread.split_off(length);
        std::mem::replace(&mut self.socket.unread, rest)
    }

    /// Reads the body until it is complete, or `keep` refuses a number of bytes.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn read_body(
        &mut self,
        listener: &Listener,
        decoder: &mut Decoder,
        body: &mut Vec<u8>,
        mut keep: impl FnMut(usize) -> bool,
    ) -> Result<(), BodyError> {
        let mut is_limited = false;
        loop {
            let used = decoder.decode(&self.socket.unread, body).map_err(|Malformed| BodyError::Malformed)?;
            self.use_unread(used);
            if !keep(body.len()) || decoder.is_done() {
                self.connection.lift_limit();
                return Ok(());
            }
            if !std::mem::replace(&mut is_limited, true) {
                self.connection.set_limit(BODY);
            }
            tokio::select! {
                biased;
                read = self.socket.fill() => if !matches!(read, Ok(1..)) {
                    return Err(BodyError::Gone);
                },
                () = self.connection.changed() => {
                    if listener.forced.is_cancelled() {
                        return Err(BodyError::Gone);
                    }
                    if self.connection.is_overdue() {
                        return Err(BodyError::TooSlow);
                    }
                }
            }
        }
    }

    /// Completes when the client has disconnected or closed its side, or mcpd closes all connections by force.
    pub async fn gone(&mut self, listener: &Listener) {
        loop {
            tokio::select! {
                biased;
                read = self.socket.fill(), if self.socket.unread.len() < AHEAD => {
                    if !matches!(read, Ok(1..)) {
                        return;
                    }
                }
                () = forced(listener, &self.connection) => return,
            }
        }
    }

    /// The result of `work`, if the client stays connected until then.
    ///
    /// # Errors
    /// See [`Interruption`].
    pub async fn while_connected<T>(
        &mut self,
        listener: &Listener,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Interruption> {
        loop {
            tokio::select! {
                biased;
                done = work.as_mut() => return Ok(done),
                read = self.socket.fill(), if self.socket.unread.len() < AHEAD => {
                    if !matches!(read, Ok(1..)) {
                        return Err(Interruption::Gone);
                    }
                }
                () = self.connection.changed() => {
                    if listener.forced.is_cancelled() {
                        return Err(Interruption::Gone);
                    }
                    if self.connection.is_overdue() {
                        self.connection.lift_limit();
                        return Err(Interruption::Overdue);
                    }
                }
            }
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the client does not take all of them.
    pub async fn send(&mut self, listener: &Listener, bytes: &[u8]) -> Result<(), Gone> {
        let mut written = 0;
        while written < bytes.len() {
            let (_, mut writer) = self.socket.split();
            tokio::select! {
                biased;
                result = writer.write(&bytes[written..]) => written += result.map_err(|_: io::Error| Gone)?,
                () = forced(listener, &self.connection) => return Err(Gone),
            }
        }
        Ok(())
    }

    /// Sends a response of mcpd itself; after it the connection goes on as `next` says.
    pub async fn reply(&mut self, listener: &Listener, reply: &Reply, next: Next, has_body: bool) -> After {
        let bytes = reply.write(next, has_body, self.origin.as_deref());
        match self.send(listener, &bytes).await {
            Ok(()) if next == Next::KeepAlive => After::NextRequest,
            Ok(()) => After::Linger,
            Err(Gone) => After::Close,
        }
    }

    /// Closes the connection when the client has what it was sent: if its bytes were not read, closing would reset the
    /// connection, and the client could lose the response (RFC 9112, section 9.6).
    pub async fn linger(mut self) {
        if rustix::net::shutdown(&self.socket.stream, rustix::net::Shutdown::Write).is_err() {
            return;
        }
        let read_rest = async {
            let mut total = 0;
            while let Ok(read @ 1..) = self.socket.fill().await {
                total += read;
                self.socket.unread.clear();
                if total > LINGER_BYTES {
                    return;
                }
            }
        };
        let _ = Deadline::after(LINGER).wait(read_rest).await;
    }
}

/// Completes when mcpd closes all connections by force.
pub async fn forced(listener: &Listener, connection: &Connection) {
    loop {
        connection.changed().await;
        if listener.forced.is_cancelled() {
            return;
        }
    }
}

/// Completes at this moment; never if there is none.
async fn until_past(moment: Option<Instant>) {
    match moment {
        // Without a timer, which would round up.
        Some(moment) if moment <= deadline::now() => {}
        moment => deadline::until_some(moment).await,
    }
}
