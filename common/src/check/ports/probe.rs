//! Trying a port by binding it, on every address that a server of this machine may use.

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

/// What the probes say. An address is "refused" with its error: `[::1]:8081: address in use`.
#[derive(Debug, PartialEq, Eq)]
pub enum Bindable {
    /// On every address, even without `SO_REUSEADDR`.
    Free,
    /// On every address, but on these only with `SO_REUSEADDR`.
    WithReuse { refused: Vec<String> },
    /// Not on these.
    No { refused: Vec<String> },
}

/// Tries every address. Call it only where nobody listens: with `SO_REUSEADDR` the probe itself
/// listens for some microseconds.
pub fn probe(port: Port) -> Bindable {
    let refused = refusals(port, &ADDRESSES, Reuse::No);
    if refused.is_empty() {
        return Bindable::Free;
    }
    let again: Vec<IpAddr> = refused.iter().map(|(address, _)| address.ip()).collect();
    let still = refusals(port, &again, Reuse::Yes);
    match still.is_empty() {
        true => Bindable::WithReuse { refused: in_words(&refused) },
        false => Bindable::No { refused: in_words(&still) },
    }
}

/// Whether the port can be bound on every address, past connections aside. Only probes: who
/// holds it is not asked. A listener is not disturbed: beside it every bind that could take its
/// connections is refused.
pub fn is_bindable(port: Port) -> bool {
    ADDRESSES.into_iter().all(|ip| {
        let address = SocketAddr::new(ip, port.get());
        refusal(address, Reuse::No).and_then(|_| refusal(address, Reuse::Yes)).is_none()
    })
}

fn refusals(port: Port, addresses: &[IpAddr], reuse: Reuse) -> Vec<(SocketAddr, io::Error)> {
    let refused = addresses.iter().filter_map(|ip| {
        let address = SocketAddr::new(*ip, port.get());
        refusal(address, reuse).map(|error| (address, error))
    });
    refused.collect()
}

/// Why the address can't be bound. One that this machine does not have (IPv6 may be switched off)
/// can't be held by anybody either.
fn refusal(address: SocketAddr, reuse: Reuse) -> Option<io::Error> {
    try_bind(address, reuse).err().filter(|error| !is_missing(error))
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

fn in_words(refused: &[(SocketAddr, io::Error)]) -> Vec<String> {
    let word = |error: &io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => "address in use".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted".to_owned(),
        _ => error.to_string(),
    };
    refused.iter().map(|(address, error)| format!("{address}: {}", word(error))).collect()
}
