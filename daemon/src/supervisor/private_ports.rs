//! Ports are checked before a worker binds them (R-SUP-6).

use std::collections::HashSet;

use mcpd_common::check::ports;
use mcpd_common::config::WorkerConfig;
use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::{process, socket};

use crate::port_holder;

/// Whether the worker will be able to bind its port.
///
/// # Errors
/// Names the holder, and what to do.
pub fn is_free(worker: &WorkerConfig) -> Result<(), String> {
    if ports::is_bindable(worker.port) {
        return Ok(());
    }
    Err(port_holder::sentence(worker.port, &worker.name))
}

/// A private port, chosen by the kernel. Another process may bind it before the worker does; then the
/// worker exits, and the next start gets another port.
///
/// # Errors
/// When the kernel has no free port.
pub fn private() -> Result<Port, String> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    let port = address.map_err(|error| format!("no private port can be had: {error}"))?.port();
    Port::new(port).ok_or_else(|| "the kernel gave port 0".to_owned())
}

/// The port that a process of this tree listens on, unless one of them listens on `given`.
pub fn other(leader: Pid, given: Port) -> Option<Port> {
    let tree: HashSet<Pid> =
        process::best_effort::tree(leader).iter().map(|process| process.pid).chain([leader]).collect();
    let listeners = socket::listeners().ok()?;
    let inodes = listeners.iter().map(|listener| listener.inode).collect();
    let owners = socket::owners(&inodes);
    let is_ours = |inode| owners.get(inode).is_some_and(|pids| pids.iter().any(|pid| tree.contains(pid)));
    let mut ports =
        listeners.iter().filter(|listener| is_ours(&listener.inode)).map(|listener| listener.local.port());
    let first = ports.next()?;
    let elsewhere = first != given.get() && ports.all(|port| port != given.get());
    elsewhere.then(|| Port::new(first)).flatten()
}
