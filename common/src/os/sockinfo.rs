//! The data of a socket on macOS: `struct socket_fdinfo` of `<sys/proc_info.h>`.
//!
//! ```text
//!   0  proc_fileinfo   24  vinfo_stat (uid at 40)   160  soi_so, soi_pcb, type and protocol
//! 208  receive queue (soi_rcv)   232  send queue (soi_snd)   256  soi_kind
//! 264  tcp_sockinfo: both ports, the family (288), both addresses (296, 312), the state (344)
//! 792  the end
//! ```
//!
//! Pure, so that it is tested on every system. All numbers are little-endian: so are all machines that
//! macOS runs on. Ports are in the order of the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tcp::{Socket, TcpState};

/// The size of the structure in bytes.
pub const SIZE: usize = 792;

const OWNER: usize = 40;
const NAME: usize = 160;
const RECEIVED: usize = 208;
const TO_SEND: usize = 232;
const KIND: usize = 256;
const PEER_PORT: usize = 264;
const LOCAL_PORT: usize = 268;
const FAMILY: usize = 288;
const PEER: usize = 296;
const LOCAL: usize = 312;
const STATE: usize = 344;

/// `SOCKINFO_TCP`.
const TCP: u32 = 2;
/// `INI_IPV4`; also set for IPv4 in an IPv6 socket.
const IPV4: u8 = 1;

/// The TCP socket in these bytes; `None` for a socket of another kind.
pub fn parse(bytes: &[u8; SIZE]) -> Option<Socket> {
    let word = |at: usize| bytes[at..].first_chunk().map(|word| u32::from_le_bytes(*word));
    if word(KIND)? != TCP {
        return None;
    }
    Some(Socket {
        local: address(bytes, LOCAL, LOCAL_PORT)?,
        peer: address(bytes, PEER, PEER_PORT)?,
        state: state(word(STATE)?)?,
        inode: bytes[NAME..].first_chunk().map(|name| u64::from_le_bytes(*name))?,
        uid: word(OWNER)?,
        receive_queue: word(RECEIVED)?,
        send_queue: word(TO_SEND)?,
        timer: None,
    })
}

fn address(bytes: &[u8; SIZE], ip: usize, port: usize) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes[port..].first_chunk()?);
    let ip = match bytes[FAMILY] & IPV4 {
        // The last four of sixteen bytes.
        1 => IpAddr::from(Ipv4Addr::from(*bytes[ip + 12..].first_chunk::<4>()?)),
        _ => IpAddr::from(Ipv6Addr::from(*bytes[ip..].first_chunk::<16>()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

/// `TSI_S_CLOSED` to `TSI_S_TIME_WAIT`.
fn state(number: u32) -> Option<TcpState> {
    Some(match number {
        0 => TcpState::Close,
        1 => TcpState::Listen,
        2 => TcpState::SynSent,
        3 => TcpState::SynReceived,
        4 => TcpState::Established,
        5 => TcpState::CloseWait,
        6 => TcpState::FinWait1,
        7 => TcpState::Closing,
        8 => TcpState::LastAck,
        9 => TcpState::FinWait2,
        10 => TcpState::TimeWait,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(family: u8, state: u8) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[OWNER] = 42;
        bytes[NAME] = 7;
        bytes[KIND] = 2;
        bytes[FAMILY] = family;
        bytes[STATE] = state;
        bytes[LOCAL_PORT..][..2].copy_from_slice(&8081u16.to_be_bytes());
        bytes[PEER_PORT..][..2].copy_from_slice(&50_000u16.to_be_bytes());
        bytes
    }

    /// R-VER-2: the holder of a port is found through the data of each of its descriptors.
    #[test]
    fn a_connection_of_each_family_is_understood() {
        let mut bytes = tcp(1, 4);
        bytes[LOCAL + 12..][..4].copy_from_slice(&[127, 0, 0, 1]);
        bytes[PEER + 12..][..4].copy_from_slice(&[127, 0, 0, 1]);
        bytes[RECEIVED] = 9;
        let socket = parse(&bytes).expect("a connection");
        assert_eq!(
            (socket.local.to_string(), socket.peer.to_string()),
            ("127.0.0.1:8081".into(), "127.0.0.1:50000".into())
        );
        assert_eq!(
            (socket.state, socket.inode, socket.uid, socket.receive_queue),
            (TcpState::Established, 7, 42, 9)
        );

        let mut bytes = tcp(2, 1);
        bytes[LOCAL + 15] = 1;
        let socket = parse(&bytes).expect("a listener");
        assert_eq!((socket.local.to_string(), socket.state), ("[::1]:8081".into(), TcpState::Listen));
    }

    #[test]
    fn sockets_of_other_kinds_are_none() {
        let mut bytes = tcp(1, 4);
        bytes[KIND] = 3;
        assert_eq!(parse(&bytes), None);
        assert_eq!(parse(&tcp(1, 11)), None, "a state that is not known");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_socket_or_none(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
            let bytes: [u8; SIZE] = bytes.try_into().expect("SIZE bytes");
            let _ = parse(&bytes);
        }
    }
}
