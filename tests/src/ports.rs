//! Ports for workers that neither another test nor an outgoing connection uses.
//!
//! A port from the ephemeral range may become the source port of a connection at any time. So these ports are below that
//! range, and a locked file for each port excludes tests in other processes.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use mcpd_common::ids::Port;

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A claimed port. Released on drop.
#[derive(Debug)]
pub struct Claim {
    port: Port,
    _lock: File,
}

impl Claim {
    /// The claimed port.
    pub fn port(&self) -> Port {
        self.port
    }
}

/// Claims a free port.
#[track_caller]
pub fn claim() -> Claim {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Each process starts at another port, so that there are few collisions.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (begin.wrapping_add(step)) % u32::from(COUNT);
        let number = FIRST + u16::try_from(offset).expect("below COUNT");
        let port = Port::new(number).expect("not 0");
        if let Some(lock) = lock(port)
            && is_free(port)
        {
            return Claim { port, _lock: lock };
        }
    }
    panic!("no port from {FIRST} on is free");
}

fn lock(port: Port) -> Option<File> {
    let directory = directory();
    fs::create_dir_all(&directory).ok()?;
    let file = File::options().create(true).append(true).open(directory.join(port.to_string())).ok()?;
    file.try_lock().ok().map(|()| file)
}

fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("mcpd-test-ports-{}", nix::unistd::getuid()))
}

/// Whether a server could bind the port now, on loopback and on the wildcard address; connections in `TIME_WAIT` don't
/// matter.
pub fn is_free(port: Port) -> bool {
    held(port).is_empty()
}

/// The addresses on which the port can't be bound, each with the error.
pub fn held(port: Port) -> Vec<String> {
    let addresses: [SocketAddr; 4] = [
        (Ipv4Addr::LOCALHOST, port.get()).into(),
        (Ipv6Addr::LOCALHOST, port.get()).into(),
        (Ipv4Addr::UNSPECIFIED, port.get()).into(),
        (Ipv6Addr::UNSPECIFIED, port.get()).into(),
    ];
    let refused = |address: &SocketAddr| match TcpListener::bind(address) {
        Ok(_) => None,
        // This machine has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => None,
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => None,
        Err(error) => Some(format!("{address}: {error}")),
    };
    addresses.iter().filter_map(refused).collect()
}
