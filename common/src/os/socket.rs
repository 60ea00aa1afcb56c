//! TCP: the kernel's socket table, who holds a socket, whether an address can be bound.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rustix::net::{AddressFamily, bind, listen, sockopt};

use super::system;
use crate::ids::Pid;

/// The states of a TCP socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// Both sides talk.
    Established,
    /// We asked for a connection.
    SynSent,
    /// A connection was asked for, and answered.
    SynReceived,
    /// We closed.
    FinWait1,
    /// We closed, and the other side knows.
    FinWait2,
    /// Over; late packets are waited for.
    TimeWait,
    /// Not connected.
    Close,
    /// The other side closed, we have not.
    CloseWait,
    /// The other side closed, then we did.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both closed at once.
    Closing,
}

impl TcpState {
    /// Whether there is another side, or was until now.
    pub fn is_connected(self) -> bool {
        !matches!(self, Self::Listen | Self::TimeWait | Self::Close)
    }

    /// The name as netstat(8) shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A TCP socket in the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its own address. IPv4 within an IPv6 socket is shown as IPv4.
    pub local: SocketAddr,
    /// The other side's; port 0 for a listener.
    pub peer: SocketAddr,
    /// Its state.
    pub state: TcpState,
    /// What its descriptors are found by (on Linux the inode); 0 when no process holds it any more.
    pub inode: u64,
    /// Its owner.
    pub uid: u32,
    /// Bytes not yet read; for a listener: connections not yet accepted.
    pub receive_queue: u32,
    /// Bytes not yet acknowledged; for a listener: how many connections may wait.
    pub send_queue: u32,
    /// What is left of its timer; in `TIME_WAIT`: until it is forgotten.
    pub timer: Option<Duration>,
}

/// All listening TCP sockets, IPv4 and IPv6.
pub fn listeners() -> io::Result<Vec<Socket>> {
    system::listeners()
}

/// All TCP sockets, IPv4 and IPv6, in every state.
pub fn sockets() -> io::Result<Vec<Socket>> {
    system::sockets()
}

/// Those of them that have another side. A machine may remember thousands of past connections
/// (`TIME_WAIT`), which are not even read here.
pub fn connections() -> io::Result<Vec<Socket>> {
    system::connections()
}

/// The processes that hold these sockets: all of them for each. Those of other users stay hidden
/// unless we are root.
pub fn owners(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Pid>> {
    system::owners(inodes)
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
    /// It is: past connections do not matter.
    Yes,
    /// It is not: any connection of the past minute refuses the address.
    No,
}

/// Held shared while a probe has a socket, and alone while a child is between fork and exec: until
/// then it has every socket of ours, and the next probe would take it for a holder of the port.
pub(super) static PROBING: RwLock<()> = RwLock::new(());

/// Binds the address and lets go at once. With [`Reuse::Yes`] it listens too, since two sockets
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

    /// R-VER-2: a socket may have several holders, and all of them are told.
    #[cfg(target_os = "linux")]
    #[test]
    fn every_holder_of_a_shared_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = listener.local_addr().expect("bound");
        let inherited = OwnedFd::from(listener.try_clone().expect("a descriptor"));
        let mut child = Command::new("sleep").arg("60").stdin(inherited).spawn().expect("sleep(1)");
        let table = listeners().expect("a table");
        let socket = table.iter().find(|socket| socket.local == local).expect("ours");
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
