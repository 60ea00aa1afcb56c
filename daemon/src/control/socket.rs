//! The control socket (section 10): directory 0700, socket 0600, the peer's uid is ours or
//! root's. A stale socket is replaced, a live one never (R-LOG-6).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, UdsConnectInfo};

use crate::deadline;
use crate::verify::self_check::ExpectedDescriptors;

/// More connections than this at once are refused (R-RPC-3).
const CONNECTIONS: usize = 256;
/// Who has not said anything by then is disconnected.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its directory can't be made.
    #[error("can't make the directory of the control socket {}: {source}", path.display())]
    Directory {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody answers on it.
    #[error("somebody else already answers on the control socket {}; stop that one, or choose another socket", .0.display())]
    Live(PathBuf),
    /// Something else is there.
    #[error("{} is there and is not a socket; it was left alone, remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// It can't be bound.
    #[error("can't listen on the control socket {}: {source}; is it another user's?", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Makes the socket.
///
/// # Errors
/// See [`SocketError`]; nothing that belongs to others is touched.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    make_directory(path).map_err(|source| SocketError::Directory { path: path.to_owned(), source })?;
    remove_stale(path)?;
    // The mask, not a later chmod: there is no moment at which others could connect.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path).map_err(failed);
    rustix::process::umask(before);
    listener
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
        }
        _ => Ok(()),
    }
}

/// Removes the socket that a daemon left behind when it died.
///
/// # Errors
/// When somebody answers on it, or it is no socket; then it stays.
pub fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(SocketError::Live(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing a stale control socket");
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The one that this process listened on as another program.
///
/// # Errors
/// When the runtime can't have it.
pub fn inherit(path: &Path, listener: std::os::unix::net::UnixListener) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    listener.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(listener).map_err(failed)
}

/// Accepts for ever: one permitted connection after the other.
pub fn accept(
    listener: Arc<UnixListener>,
    expected: ExpectedDescriptors,
) -> impl tokio_stream::Stream<Item = io::Result<Peer>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
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
                // No descriptor left, most likely: one may be free again soon.
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
            Err(_) => tracing::warn!(limit = CONNECTIONS, "too many control connections, one was refused"),
        }
    }
}

fn is_permitted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own || peer.uid() == 0 => true,
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
        let silence = Box::pin(deadline::until(deadline::now() + FIRST_WORD));
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
