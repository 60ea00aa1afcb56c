//! The kernel's numbers of TCP states (`include/net/tcp_states.h`).

use crate::os::tcp::TcpState;

/// The state with this number; `None` for an unknown one.
pub fn state(number: u8) -> Option<TcpState> {
    Some(match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        // 12: a connection request that has no socket yet.
        3 | 12 => TcpState::SynReceived,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        // 13: only bound, see `sock_diag`.
        7 | 13 => TcpState::Close,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        _ => return None,
    })
}
