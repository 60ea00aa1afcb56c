//! A TCP socket as the kernel shows it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// The states of a TCP socket (RFC 9293).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// Connected.
    Established,
    /// A connection was requested from this side.
    SynSent,
    /// A connection was requested by the peer, and answered.
    SynReceived,
    /// This side closed.
    FinWait1,
    /// This side closed, and the peer acknowledged it.
    FinWait2,
    /// Closed by both sides; late packets are still accepted.
    TimeWait,
    /// Not connected.
    Close,
    /// The peer closed, this side has not.
    CloseWait,
    /// The peer closed, then this side did.
    LastAck,
    /// A listener.
    Listen,
    /// Both sides closed at the same time.
    Closing,
}

impl TcpState {
    /// Whether the socket has a peer, or had one until it was closed.
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
    /// The address of this side. IPv4 within an IPv6 socket is shown as IPv4.
    pub local: SocketAddr,
    /// The address of the peer; port 0 for a listener.
    pub peer: SocketAddr,
    /// The TCP state.
    pub state: TcpState,
    /// The id by which its descriptors are found (on Linux the inode); 0 if no process holds it any more.
    pub inode: u64,
    /// The id of the user that owns it.
    pub uid: u32,
    /// Bytes not yet read; for a listener: connections not yet accepted.
    pub receive_queue: u32,
    /// Bytes not yet acknowledged; for a listener: the length of its queue (the backlog).
    pub send_queue: u32,
    /// The time until its timer expires; in `TIME_WAIT`: until the kernel removes it.
    pub timer: Option<Duration>,
}
