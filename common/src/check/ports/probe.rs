//! Probes a port by binding it on every address that a server of this machine may use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::Port;
use crate::os::socket::{Reuse, try_bind};

const ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

/// The result of probing a port. `refused` lists addresses with their errors: `[::1]:8081: address in use`.
#[derive(Debug, PartialEq, Eq)]
pub enum Bindable {
    /// On every address, even without `SO_REUSEADDR`.
    Free,
    /// On every address, but on the refused ones only with `SO_REUSEADDR`.
    WithReuse { refused: Vec<String> },
    /// Not on the refused addresses, not even with `SO_REUSEADDR`.
    No { refused: Vec<String> },
}

/// Probes every address. Call it only for a port without a listener: with `SO_REUSEADDR` the probe itself
/// listens for some microseconds.
pub fn probe(port: Port) -> Bindable {
    let refused = refusals(port, &ADDRESSES, Reuse::No);
    if refused.is_empty() {
        return Bindable::Free;
    }
    let again: Vec<IpAddr> = refused.iter().map(|(address, _)| address.ip()).collect();
    let still = refusals(port, &again, Reuse::Yes);
    if still.is_empty() {
        Bindable::WithReuse { refused: describe(&refused) }
    } else {
        Bindable::No { refused: describe(&still) }
    }
}

/// Whether the port can be bound on every address, ignoring connections in `TIME_WAIT`. Does not read the
/// socket table. A listener is not disturbed: the kernel refuses every bind that could take its connections.
pub fn is_bindable(port: Port) -> bool {
    ADDRESSES.into_iter().all(|ip| {
        let address = SocketAddr::new(ip, port.get());
        refusal(address, Reuse::No).and_then(|_| refusal(address, Reuse::Yes)).is_none()
    })
}

fn refusals(port: Port, addresses: &[IpAddr], reuse: Reuse) -> Vec<(SocketAddr, io::Error)> {
    addresses
        .iter()
        .filter_map(|ip| {
            let address = SocketAddr::new(*ip, port.get());
            refusal(address, reuse).map(|error| (address, error))
        })
        .collect()
}

/// Why the address can't be bound. An address that this machine does not have (IPv6 may be disabled) does not
/// count, since no process can hold it.
fn refusal(address: SocketAddr, reuse: Reuse) -> Option<io::Error> {
    try_bind(address, reuse).err().filter(|error| !is_missing(error))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

fn describe(refused: &[(SocketAddr, io::Error)]) -> Vec<String> {
    refused
        .iter()
        .map(|(address, error)| match error.kind() {
            io::ErrorKind::AddrInUse => format!("{address}: address in use"),
            io::ErrorKind::PermissionDenied => format!("{address}: not permitted"),
            _ => format!("{address}: {error}"),
        })
        .collect()
}
