//! TCP: the kernel's socket table, the holders of a socket, whether an address can be bound.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};

use rustix::net::{AddressFamily, bind, listen, sockopt};

use super::system;
pub use super::tcp::{Socket, TcpState};
use crate::ids::Pid;

/// All listening TCP sockets, IPv4 and IPv6.
pub fn listeners() -> io::Result<Vec<Socket>> {
    system::listeners()
}

/// The listening TCP sockets with this local port, on every address.
pub fn listeners_on(port: u16) -> io::Result<Vec<Socket>> {
    system::listeners_on(port)
}

/// All TCP sockets, IPv4 and IPv6, in every state.
pub fn sockets() -> io::Result<Vec<Socket>> {
    system::sockets()
}

/// The sockets that have a peer, without `TIME_WAIT`: a machine may have thousands of those, which are not
/// even read here.
pub fn connections() -> io::Result<Vec<Socket>> {
    system::connections()
}

/// The user at the other end of a connection, which is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerUser {
    /// The user id of the socket.
    Known(u32),
    /// No process holds the socket any more, so that no process reads a response.
    Gone,
}

/// The user of the client of a connection. The kernel gives a socket without a process the user id 0.
///
/// # Errors
/// When the socket table can't be read, or does not show other users' sockets.
pub fn client_user(client: SocketAddr, server: SocketAddr) -> io::Result<PeerUser> {
    let found = system::connection(client, server)?.filter(|socket| socket.inode != 0);
    match found {
        Some(socket) => Ok(PeerUser::Known(socket.uid)),
        None if SHOWS_ALL => Ok(PeerUser::Gone),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The processes that hold these sockets, by inode. Only for reports: processes of other users (unless run
/// by root) and processes that can't be read now are missing.
pub fn owners(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Pid>> {
    system::owners(inodes)
}

/// The inodes of the sockets that a process holds; none if its descriptors can't be read.
pub fn held_by(pid: Pid) -> HashSet<u64> {
    system::sockets_of(pid)
}

/// The inodes of the TCP sockets that this process holds.
pub fn own() -> HashSet<u64> {
    system::sockets_of(Pid::current())
}

/// Whether the table shows also sockets of other users, and those that no process holds any more.
pub const SHOWS_ALL: bool = system::SHOWS_EVERY_SOCKET;

/// Whether `SO_REUSEADDR` is set for a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// Set: past connections do not matter.
    Yes,
    /// Not set: any connection of the past minute makes the address unavailable.
    No,
}

/// Read-locked while a probe has a socket, and write-locked while a child is between fork and exec: until
/// exec the child has every socket of this process, and the next probe would take it for a holder of the
/// port.
pub(super) static PROBING: RwLock<()> = RwLock::new(());

/// Binds the address and closes the socket at once. With [`Reuse::Yes`] it listens too, since two sockets
/// may share a bound address but not a listening one. IPv6 sockets speak only IPv6.
pub fn try_bind(address: SocketAddr, reuse: Reuse) -> io::Result<()> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let _probing = PROBING.read().unwrap_or_else(PoisonError::into_inner);
    let socket = system::tcp_socket(family)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    sockopt::set_socket_reuseaddr(&socket, reuse == Reuse::Yes)?;
    bind(&socket, &address)?;
    if reuse == Reuse::Yes {
        listen(&socket, 1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::process::Command;

    use super::*;

    /// R-VER-2: a socket may have several holders, and all of them are found.
    #[cfg(target_os = "linux")]
    #[test]
    fn every_holder_of_a_shared_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = listener.local_addr().expect("bound");
        let inherited = OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let mut child = Command::new("sleep").arg("60").stdin(inherited).spawn().expect("sleep(1)");
        let table = listeners().expect("a table");
        let socket = table.iter().find(|socket| socket.local == local).expect("in the table");
        assert_eq!((socket.state, socket.peer.port()), (TcpState::Listen, 0));
        let mut held_by = owners(&HashSet::from([socket.inode])).remove(&socket.inode).unwrap_or_default();
        child.kill().expect("our child");
        child.wait().expect("our child");
        held_by.sort();
        let mut both = vec![Pid::current(), Pid::new(child.id().cast_signed()).expect("positive")];
        both.sort();
        assert_eq!(held_by, both);
    }

    /// R-CLIENT-6: both ends of a connection are in the table, each with the other's address.
    #[cfg(target_os = "linux")]
    #[test]
    fn both_ends_of_a_connection_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = listener.local_addr().expect("bound");
        let client = TcpStream::connect(local).expect("our own listener");
        let _accepted = listener.accept().expect("the client");
        let remote = client.local_addr().expect("connected");
        let table = sockets().expect("a table");
        for (here, there) in [(local, remote), (remote, local)] {
            let end = table.iter().find(|socket| (socket.local, socket.peer) == (here, there));
            assert_eq!(end.map(|end| end.state), Some(TcpState::Established));
        }
    }

    /// R-CLIENT-12: the user of a client, and that a closed client has none.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_user_of_a_client_is_known() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a free port");
            let server = listener.local_addr().expect("bound");
            let client = TcpStream::connect(server).expect("our own listener");
            let (accepted, peer) = listener.accept().expect("the client");
            let user = crate::os::this_process::user();
            assert_eq!(client_user(peer, server).expect("a table"), PeerUser::Known(user));
            drop(client);
            assert_eq!(client_user(peer, server).expect("a table"), PeerUser::Gone);
            drop(accepted);
        }
    }

    #[test]
    fn a_bound_address_is_refused_and_a_free_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = listener.local_addr().expect("bound");
        for reuse in [Reuse::Yes, Reuse::No] {
            let refused = try_bind(local, reuse).expect_err("taken");
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        }
        drop(listener);
        for reuse in [Reuse::Yes, Reuse::No] {
            try_bind(local, reuse).expect("free again");
        }
    }
}
