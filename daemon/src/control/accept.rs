//! Accepting on the control socket: the peer's uid must be the daemon's or root's (section 10).

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mcpd_common::os::this_process;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::deadline::{self, Deadline};
use crate::verify::self_check::ExpectedDescriptors;

/// A connection that has not begun to speak HTTP/2 by then is closed.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Length in bytes of the text with which every HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Limit for a closed connection to make its place free.
const EVICTION_LIMIT: Duration = Duration::from_millis(500);

/// All permitted connections, as a stream without end.
pub fn accept(
    listener: Arc<UnixListener>,
    max_connections: usize,
    expected: ExpectedDescriptors,
) -> impl tokio_stream::Stream<Item = io::Result<Peer>> {
    let acceptor = Acceptor {
        listener,
        max_connections,
        places: Arc::new(Semaphore::new(max_connections)),
        newcomers: VecDeque::new(),
        warned: None,
        expected,
    };
    futures_util::stream::unfold(acceptor, async |mut acceptor| {
        let peer = acceptor.next().await;
        Some((Ok(peer), acceptor))
    })
}

struct Acceptor {
    listener: Arc<UnixListener>,
    max_connections: usize,
    places: Arc<Semaphore>,
    /// Connections that may not have begun to speak, the oldest first.
    newcomers: VecDeque<Weak<Newcomer>>,
    warned: Option<Instant>,
    expected: ExpectedDescriptors,
}

/// A connection that has not begun to speak; dropped when it has, or is closed.
#[derive(Default)]
struct Newcomer {
    /// Cancelled when the connection has to make room.
    evicted: CancellationToken,
}

impl Acceptor {
    async fn next(&mut self) -> Peer {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a control connection");
                    deadline::pause_after_accept_error(&error, Duration::from_millis(100)).await;
                    continue;
                }
            };
            if !is_permitted(&stream) {
                continue;
            }
            match self.find_place().await {
                Some(place) => return self.admit(stream, place),
                None => tracing::warn!(
                    limit = self.max_connections,
                    "too many control connections, one was refused"
                ),
            }
        }
    }

    /// A connection that has not begun to speak gives way to a new one, so that idle connections never lock the
    /// user's tools out.
    async fn find_place(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = self.places.clone().try_acquire_owned() {
                return Some(place);
            }
            let oldest = std::iter::from_fn(|| self.newcomers.pop_front()).find_map(|it| it.upgrade())?;
            self.warn();
            oldest.evicted.cancel();
            drop(oldest);
            let place = Deadline::after(EVICTION_LIMIT).wait(self.places.clone().acquire_owned()).await;
            if let Ok(Ok(place)) = place {
                return Some(place);
            }
        }
    }

    /// At most once in ten seconds.
    fn warn(&mut self) {
        const INTERVAL: Duration = Duration::from_secs(10);
        if self.warned.is_none_or(|at| deadline::now() >= at + INTERVAL) {
            self.warned = Some(deadline::now());
            let limit = self.max_connections;
            tracing::warn!(
                limit,
                "too many control connections: those that do not speak are closed to make room"
            );
        }
    }

    fn admit(&mut self, stream: UnixStream, place: OwnedSemaphorePermit) -> Peer {
        let newcomer = Arc::new(Newcomer::default());
        self.newcomers.retain(|newcomer| newcomer.strong_count() > 0);
        self.newcomers.push_back(Arc::downgrade(&newcomer));
        Peer::new(stream, place, newcomer, self.expected.clone())
    }
}

fn is_permitted(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if this_process::trusts(peer.uid()) => true,
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                "refused a control connection of another user"
            );
            false
        }
        Err(error) => {
            tracing::warn!(%error, "refused a control connection of an unknown user");
            false
        }
    }
}

/// A permitted connection.
pub struct Peer {
    stream: UnixStream,
    /// `None` when the client has begun to speak.
    preface: Option<Preface>,
    expected: ExpectedDescriptors,
    _place: OwnedSemaphorePermit,
}

struct Preface {
    received: usize,
    /// Completes when the connection has to be closed.
    is_over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Peer {
    fn new(
        stream: UnixStream,
        place: OwnedSemaphorePermit,
        newcomer: Arc<Newcomer>,
        expected: ExpectedDescriptors,
    ) -> Self {
        expected.opened(stream.as_raw_fd());
        let is_over = Box::pin(async move {
            let _ = Deadline::after(PREFACE_TIMEOUT).wait(newcomer.evicted.cancelled()).await;
        });
        Self { stream, preface: Some(Preface { received: 0, is_over }), expected, _place: place }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.expected.closed(self.stream.as_raw_fd());
    }
}

impl Connected for Peer {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(preface) = &mut self.preface else { return polled };
        preface.received += buffer.filled().len() - before;
        if preface.received >= PREFACE {
            self.preface = None;
        } else if polled.is_pending() {
            ready!(preface.is_over.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
