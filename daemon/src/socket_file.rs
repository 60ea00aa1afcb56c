//! The control socket's file (section 10): directory 0700, socket 0600. A stale file is replaced, a live
//! socket never (R-LOG-6).

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use mcpd_common::paths::private_directory;
use tokio::net::UnixListener;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("can't use the directory of the control socket {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    /// Another process serves it.
    #[error("another process already serves the control socket {}; stop that process, or choose another socket", .0.display())]
    Live(PathBuf),
    #[error("{} is there and is not a socket; it was left alone, remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    #[error("can't listen on the control socket {}: {source}; is it another user's?", path.display())]
    Bind { path: PathBuf, source: io::Error },
}

/// Creates the socket.
///
/// # Errors
/// See [`SocketError`]; files of others are not touched.
pub fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    make_directory(path).map_err(|source| SocketError::Directory { path: path.to_owned(), source })?;
    remove_stale(path)?;
    // With umask(2) and not a later chmod(2), so that others can't connect in between.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path).map_err(failed);
    rustix::process::umask(before);
    listener
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => private_directory::prepare(directory),
        _ => Ok(()),
    }
}

/// Removes the socket file that a crashed daemon left.
///
/// # Errors
/// When a process serves it, or it is not a socket; then it stays.
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

/// The socket that this process inherited.
///
/// # Errors
/// When the runtime can't register it.
pub fn inherit(path: &Path, listener: std::os::unix::net::UnixListener) -> Result<UnixListener, SocketError> {
    let failed = |source| SocketError::Bind { path: path.to_owned(), source };
    listener.set_nonblocking(true).map_err(failed)?;
    UnixListener::from_std(listener).map_err(failed)
}
