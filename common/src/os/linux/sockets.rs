//! The table of TCP sockets: from `sock_diag`, or from `/proc/net` where netlink is not allowed (in some
//! sandboxes).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::sock_diag;
use super::tcp_state::state;
use crate::os::tcp::{Socket, TcpState};

/// Whether sockets of other users, and those that no process holds any more, are listed.
pub const SHOWS_EVERY_SOCKET: bool = true;

/// All listening TCP sockets.
pub fn listeners() -> io::Result<Vec<Socket>> {
    sock_diag::listeners().or_else(|refused| from_proc(&refused, |state| state == TcpState::Listen))
}

/// The listening TCP sockets with this local port.
pub fn listeners_on(port: u16) -> io::Result<Vec<Socket>> {
    sock_diag::listeners_on(port).or_else(|refused| {
        let mut listeners = from_proc(&refused, |state| state == TcpState::Listen)?;
        listeners.retain(|socket| socket.local.port() == port);
        Ok(listeners)
    })
}

/// All TCP sockets.
pub fn sockets() -> io::Result<Vec<Socket>> {
    sock_diag::sockets().or_else(|refused| from_proc(&refused, |_| true))
}

/// The socket with these addresses; `None` if there is none. The other end has to exist: a kernel without `tcp_diag`
/// gives the same error as for a socket that does not exist.
pub fn connection(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Socket>> {
    let refused = match sock_diag::connection(local, peer) {
        Ok(Some(found)) => return Ok(Some(found)),
        Ok(None) => match sock_diag::connection(peer, local) {
            Ok(Some(_)) => return Ok(None),
            Ok(None) => io::ErrorKind::Unsupported.into(),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let all = from_proc(&refused, TcpState::is_connected)?;
    Ok(all.into_iter().find(|socket| (socket.local, socket.peer) == (local, peer)))
}

/// TCP sockets that have a peer, without `TIME_WAIT`.
pub fn connections() -> io::Result<Vec<Socket>> {
    sock_diag::connections().or_else(|refused| from_proc(&refused, TcpState::is_connected))
}

/// A new TCP socket, closed on exec from the start.
pub fn tcp_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// The sockets in wanted states, from both tables of `/proc/net`; the one for IPv6 may be missing.
fn from_proc(refused: &io::Error, is_wanted: fn(TcpState) -> bool) -> io::Result<Vec<Socket>> {
    let v4 = fs::read_to_string("/proc/net/tcp").map_err(|error| {
        let text =
            format!("the kernel's socket table can't be read: sock_diag: {refused}; /proc/net/tcp: {error}");
        io::Error::new(error.kind(), text)
    })?;
    let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    let all = v4.lines().chain(v6.lines()).filter_map(socket_of_line);
    Ok(all.filter(|socket| is_wanted(socket.state)).collect())
}

/// One line of `/proc/net/tcp` or `tcp6`; `None` for the heading and for garbage.
fn socket_of_line(line: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, peer, state_hex, queues, timer, _, uid, _, inode, ..] = fields.as_slice() else {
        return None;
    };
    let (send, receive) = queues.split_once(':')?;
    let (active, ticks) = timer.split_once(':')?;
    // In 1/100 s, whatever the tick rate of the kernel is.
    let left = Duration::from_millis(u64::from_str_radix(ticks, 16).ok()?.saturating_mul(10));
    Some(Socket {
        local: address(local)?,
        peer: address(peer)?,
        state: state(u8::from_str_radix(state_hex, 16).ok()?)?,
        inode: inode.parse().ok()?,
        uid: uid.parse().ok()?,
        receive_queue: u32::from_str_radix(receive, 16).ok()?,
        send_queue: u32::from_str_radix(send, 16).ok()?,
        timer: (active != "00").then_some(left),
    })
}

/// `0100007F:1F91`: the address as 32-bit words in the byte order of the machine, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes = <[u8; 16]>::try_from(words.as_flattened()).ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_each_family_is_parsed() {
        let v4 = "   0: 0100007F:1F91 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 4242 1 0";
        let socket = socket_of_line(v4).expect("a listener");
        if cfg!(target_endian = "little") {
            assert_eq!(socket.local.to_string(), "127.0.0.1:8081");
        }
        assert_eq!((socket.state, socket.inode, socket.uid), (TcpState::Listen, 4242, 1000));
        assert_eq!((socket.receive_queue, socket.timer), (3, None));

        let v6 = "   1: 00000000000000000000000001000000:1F92 00000000000000000000000001000000:C350 06 \
            00000000:00000000 03:00000B54 00000000     0        0 0 3 0";
        let socket = socket_of_line(v6).expect("a past connection");
        if cfg!(target_endian = "little") {
            assert_eq!(socket.local.to_string(), "[::1]:8082");
        }
        assert_eq!((socket.state, socket.timer), (TcpState::TimeWait, Some(Duration::from_millis(29_000))));
    }

    #[test]
    fn the_heading_is_no_socket() {
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(socket_of_line(heading), None);
    }

    proptest! {
        #[test]
        fn garbage_is_never_a_panic(line in "\\PC{0,120}") {
            let _ = socket_of_line(&line);
        }

        #[test]
        fn near_garbage_is_never_a_panic(fields in proptest::collection::vec("[0-9A-Fé]{0,33}:?[0-9A-F]{0,9}", 10..12)) {
            let _ = socket_of_line(&fields.join(" "));
        }
    }

    #[test]
    fn both_sources_show_the_same_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let local = listener.local_addr().expect("bound");
        let proc = from_proc(&io::ErrorKind::Other.into(), |_| true).expect("/proc/net/tcp");
        let listed = |table: &[Socket]| {
            table.iter().filter(|s| s.local == local).map(|s| (s.state, s.inode, s.uid)).collect::<Vec<_>>()
        };
        let by_proc = listed(&proc);
        assert_eq!(by_proc.len(), 1);
        assert_eq!(by_proc, listed(&sock_diag::listeners().expect("sock_diag")));
        assert_eq!(by_proc, listed(&sock_diag::sockets().expect("sock_diag")));
    }
}
