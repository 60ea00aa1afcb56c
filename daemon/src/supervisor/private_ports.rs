//! Chooses and checks the port that a worker is to bind (R-SUP-6), and finds a worker that listens on another port
//! (R-CONF-1).

use std::collections::HashSet;

use mcpd_common::check::ports;
use mcpd_common::config::WorkerConfig;
use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::{process, socket};

use crate::port_holder;

/// Checks that the worker's port can be bound.
///
/// # Errors
/// If the port is in use: names the holder, and what the user can do.
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
/// If the kernel has no free port.
pub fn private() -> Result<Port, String> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0));
    let address = listener.and_then(|listener| listener.local_addr());
    let port = address.map_err(|error| format!("the kernel assigns no private port: {error}"))?.port();
    Port::new(port).ok_or_else(|| "the kernel gave port 0".to_owned())
}

/// The first port on which the process tree of `leader` listens, if no process of the tree listens on `given`.
/// `None` if the sockets can't be read.
pub fn wrong_port(leader: Pid, given: Port) -> Option<Port> {
    let tree: HashSet<Pid> =
        process::best_effort::tree(leader).iter().map(|process| process.pid).chain([leader]).collect();
    let listeners = socket::listeners().ok()?;
    let inodes = listeners.iter().map(|listener| listener.inode).collect();
    let owners = socket::owners(&inodes);
    let in_tree = |inode| owners.get(inode).is_some_and(|pids| pids.iter().any(|pid| tree.contains(pid)));
    let mut ports =
        listeners.iter().filter(|listener| in_tree(&listener.inode)).map(|listener| listener.local.port());
    let first = ports.next()?;
    if first == given.get() || ports.any(|port| port == given.get()) {
        return None;
    }
    Port::new(first)
}
