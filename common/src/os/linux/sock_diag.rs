//! The socket table by netlink: the kernel filters by state and sends numbers instead of text,
//! fifty times faster than `/proc/net/tcp`.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, Parseable,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket as Netlink, SocketAddr as NetlinkAddress};

use super::tcp_state::state;
use crate::os::tcp::Socket;

/// No comparison of the kernel's own number of a socket (`INET_DIAG_NOCOOKIE`).
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// No filter by local port.
const ANY_PORT: u16 = 0;

/// The kernel's limit for one datagram of a dump, in bytes.
const MAX_DATAGRAM: usize = 32 * 1024;

/// Listening sockets.
pub fn listeners() -> io::Result<Vec<Socket>> {
    table(&StateFlags::LISTEN, ANY_PORT)
}

/// Listening sockets with this local port; the kernel filters.
pub fn listeners_on(port: u16) -> io::Result<Vec<Socket>> {
    table(&StateFlags::LISTEN, port)
}

/// The bit that requests sockets that are only bound: they hold a port too. Kernels before 6.8 ignore it and
/// don't list such sockets.
const BOUND_INACTIVE: u32 = 1 << 13;

/// Sockets in every state.
pub fn sockets() -> io::Result<Vec<Socket>> {
    table(&StateFlags::from_bits_retain(StateFlags::all().bits() | BOUND_INACTIVE), ANY_PORT)
}

/// Sockets that have a peer, without `TIME_WAIT`.
pub fn connections() -> io::Result<Vec<Socket>> {
    let others = StateFlags::LISTEN | StateFlags::TIME_WAIT | StateFlags::CLOSE;
    table(&(StateFlags::all() - others), ANY_PORT)
}

/// The table changed while the kernel listed it, so that sockets may be missing (`NLM_F_DUMP_INTR`, netlink(7)).
const INTERRUPTED: io::ErrorKind = io::ErrorKind::Interrupted;
/// How often an interrupted listing is repeated.
const MAX_TRIES: usize = 5;

/// The socket with these addresses; `None` if there is none.
pub fn connection(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Socket>> {
    let netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    let (family, any) = match local {
        SocketAddr::V4(_) => (AF_INET, SocketId::new_v4()),
        SocketAddr::V6(_) => (AF_INET6, SocketId::new_v6()),
    };
    let socket_id = SocketId {
        source_port: local.port(),
        source_address: local.ip(),
        destination_port: peer.port(),
        destination_address: peer.ip(),
        cookie: ANY_COOKIE,
        ..any
    };
    netlink.send(&request(family, socket_id, &StateFlags::all(), NLM_F_REQUEST), 0)?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    let length = netlink.recv(&mut &mut buffer[..], 0)?;
    let mut found = vec![];
    match take(&buffer[..length.min(MAX_DATAGRAM)], &mut found) {
        Ok(_) => Ok(found.pop()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn table(states: &StateFlags, port: u16) -> io::Result<Vec<Socket>> {
    for _ in 1..MAX_TRIES {
        match try_table(states, port) {
            Err(error) if error.kind() == INTERRUPTED => {}
            result => return result,
        }
    }
    try_table(states, port)
}

fn try_table(states: &StateFlags, port: u16) -> io::Result<Vec<Socket>> {
    let netlink = Netlink::new(NETLINK_SOCK_DIAG)?;
    netlink.connect(&NetlinkAddress::new(0, 0))?;
    let mut found = Vec::new();
    let v4 = SocketId { source_port: port, ..SocketId::new_v4() };
    dump(&netlink, AF_INET, v4, states, &mut found)?;
    let v6 = SocketId { source_port: port, ..SocketId::new_v6() };
    // Without IPv6 on this machine the kernel returns an error; there are no such sockets then.
    if let Err(error) = dump(&netlink, AF_INET6, v6, states, &mut found)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    Ok(found)
}

fn dump(
    netlink: &Netlink,
    family: u8,
    socket_id: SocketId,
    states: &StateFlags,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    netlink.send(&request(family, socket_id, states, NLM_F_REQUEST | NLM_F_DUMP), 0)?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = netlink.recv(&mut &mut buffer[..], 0)?;
        if take(&buffer[..length.min(MAX_DATAGRAM)], found)? == Dump::Done {
            return Ok(());
        }
    }
}

fn request(family: u8, socket_id: SocketId, states: &StateFlags, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let body = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: states.clone(),
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(body).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Whether more datagrams follow.
#[derive(PartialEq, Eq)]
pub(super) enum Dump {
    More,
    Done,
}

/// Parses the sockets of one datagram.
pub(super) fn take(mut datagram: &[u8], found: &mut Vec<Socket>) -> io::Result<Dump> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(io::Error::other)?;
        if message.flags() & NLM_F_DUMP_INTR != 0 {
            return Err(INTERRUPTED.into());
        }
        match message.message_type() {
            SOCK_DIAG_BY_FAMILY => found.extend(socket(message.payload())),
            NLMSG_DONE => return Ok(Dump::Done),
            NLMSG_ERROR => return Err(error_of(message.payload())),
            _ => {}
        }
        // Messages are aligned to 4 bytes.
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(Dump::More)
}

/// The payload of an error message begins with the negated errno.
fn error_of(payload: &[u8]) -> io::Error {
    let number = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    io::Error::from_raw_os_error(number.saturating_neg())
}

/// The offset of `idiag_expires` in the kernel's `struct inet_diag_msg`. The library drops it for
/// `TIME_WAIT`, where it is needed.
const EXPIRES: std::ops::Range<usize> = 52..56;

fn socket(payload: &[u8]) -> Option<Socket> {
    let header = InetResponseHeader::parse(payload).ok()?;
    let expires = u32::from_ne_bytes(payload.get(EXPIRES)?.try_into().ok()?);
    let id = &header.socket_id;
    Some(Socket {
        local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        peer: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        state: state(header.state)?,
        inode: header.inode.into(),
        uid: header.uid,
        receive_queue: header.recv_queue,
        send_queue: header.send_queue,
        timer: header.timer.is_some().then(|| Duration::from_millis(expires.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// netlink(7): an interrupted dump may miss sockets, so it is not taken for the whole table.
    #[test]
    fn an_interrupted_dump_is_an_error() {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_DUMP_INTR;
        let mut message: NetlinkMessage<SockDiagMessage> = NetlinkMessage::new(
            header,
            netlink_packet_core::NetlinkPayload::Done(netlink_packet_core::DoneMessage::default()),
        );
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let error = take(&bytes, &mut vec![]).err().map(|error| error.kind());
        assert_eq!(error, Some(INTERRUPTED));
    }
}
