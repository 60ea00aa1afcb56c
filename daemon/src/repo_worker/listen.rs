//! The listening sockets: loopback only, IPv4 and, if the machine has it, IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mcpd_common::check::ports::{KnownPort, examine};
use mcpd_common::ids::Port;
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket};

/// Limit of connections that wait to be accepted, listen(2).
const BACKLOG: u32 = 1024;

/// Why the port can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}: {source}{holders}; stop that process or choose another port")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
    holders: String,
}

/// Binds 127.0.0.1 and, if the machine has it, ::1.
pub fn bind(port: Port) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = vec![bind_one((Ipv4Addr::LOCALHOST, port.get()).into())?];
    match bind_one((Ipv6Addr::LOCALHOST, port.get()).into()) {
        Ok(listener) => listeners.push(listener),
        Err(error) if is_absent(&error.source) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn bind_one(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = match address.ip() {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // Connections of a worker that just exited are in TIME_WAIT; they must not keep the
        // next one from its port.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ListenError { address, holders: holders(address, &source), source })
}

/// The holder of the address, as the end of a sentence (R-SUP-6).
fn holders(address: SocketAddr, error: &io::Error) -> String {
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    let Some(port) = Port::new(address.port()).filter(|_| taken) else { return String::new() };
    let reports = examine(&[KnownPort { port, worker: None }], &|_| None);
    reports.first().map(|report| format!(": {}", report.holders_sentence())).unwrap_or_default()
}

/// Whether the machine does not have the address family.
fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| absent.contains(&errno))
}
