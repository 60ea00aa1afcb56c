//! Accepting on the control socket: the peer's uid must be the daemon's or root's (section 10).

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mcpd_common::os::this_process;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::deadline;
use crate::verify::self_check::ExpectedDescriptors;

/// More connections than this at once are refused (R-RPC-3).
const MAX_CONNECTIONS: usize = 256;
/// A connection that has not sent a byte by then is closed.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);

/// All permitted connections, as a stream without end.
pub fn accept(
    listener: Arc<UnixListener>,
    expected: ExpectedDescriptors,
) -> impl tokio_stream::Stream<Item = io::Result<Peer>> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    futures_util::stream::unfold((listener, places, expected), async |(listener, places, expected)| {
        let peer = next(&listener, &places, &expected).await;
        Some((Ok(peer), (listener, places, expected)))
    })
}

async fn next(listener: &UnixListener, places: &Arc<Semaphore>, expected: &ExpectedDescriptors) -> Peer {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most likely no descriptor is left; one may become free soon.
                tracing::warn!(%error, "can't accept a control connection");
                deadline::until(deadline::now() + Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_permitted(&stream) {
            continue;
        }
        match places.clone().try_acquire_owned() {
            Ok(place) => return Peer::new(stream, place, expected.clone()),
            Err(_) => {
                tracing::warn!(limit = MAX_CONNECTIONS, "too many control connections, one was refused")
            }
        }
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
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    expected: ExpectedDescriptors,
    _place: OwnedSemaphorePermit,
}

impl Peer {
    fn new(stream: UnixStream, place: OwnedSemaphorePermit, expected: ExpectedDescriptors) -> Self {
        expected.opened(stream.as_raw_fd());
        let silence = Box::pin(deadline::until(deadline::now() + FIRST_BYTE_TIMEOUT));
        Self { stream, silence: Some(silence), expected, _place: place }
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
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.silence = None;
            return Poll::Ready(result);
        }
        if let Some(silence) = &mut self.silence {
            ready!(silence.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
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
