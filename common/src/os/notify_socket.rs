//! The datagram socket of a service manager (`NOTIFY_SOCKET`, sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends messages to a service manager, and never waits for it.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    /// Kept instead of a connection, which would end when the service manager makes the socket anew.
    address: SocketAddr,
}

impl NotifySocket {
    /// `name` is the value of `NOTIFY_SOCKET`: an absolute path, or `@` and the name of an abstract socket.
    ///
    /// # Errors
    /// When it is neither of these, or no descriptor is left.
    pub fn open(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => abstract_address(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the queue of the socket is full; or nothing listens there.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        self.socket.send_to_addr(message, &self.address).map(drop)
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_a_full_queue_does_not_block() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        let socket = NotifySocket::open(path.as_os_str()).expect("opened");
        socket.send(b"READY=1").expect("sent");
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("received");
        assert_eq!(&buffer[..length], b"READY=1");
        let mut results = (0..10_000).map(|_| socket.send(b"STATUS=x"));
        let error = results.find_map(Result::err).expect("the queue is bounded");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_sockets_are_supported() {
        let name = format!("mcpd-test-{}", std::process::id());
        let address = abstract_address(name.as_bytes()).expect("an address");
        let manager = UnixDatagram::bind_addr(&address).expect("bound");
        NotifySocket::open(format!("@{name}").as_ref()).expect("opened").send(b"x").expect("sent");
        assert_eq!(manager.recv(&mut [0; 8]).expect("received"), 1);
    }

    #[test]
    fn other_addresses_are_refused() {
        assert!(NotifySocket::open("vsock:2:1".as_ref()).is_err());
        assert!(NotifySocket::open("".as_ref()).is_err());
    }
}
