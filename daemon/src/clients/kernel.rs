//! Client connections as the kernel sees them.
//!
//! A connection counts as long as the client has it open, or bytes or our `FIN` are still to be
//! acknowledged: from `ESTABLISHED` to `FIN_WAIT1`. After that (`FIN_WAIT2`, `TIME_WAIT`) the client
//! has everything, and its own `FIN` is not awaited; in `CLOSE_WAIT` it has left by itself. The
//! daemon's own requests to its workers are no clients.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use mcpd_common::ids::{Port, WorkerName};
use mcpd_common::os::ProcessInfo;
use mcpd_common::os::socket::{self, Socket, TcpState};
use mcpd_common::os::{own, process};
use mcpd_common::outcome::ClientReport;

/// Which worker holds which port.
pub type Ports = HashMap<Port, WorkerName>;

/// A connection of a client to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection {
    /// The worker.
    pub worker: WorkerName,
    /// The client's address.
    pub peer: SocketAddr,
}

/// All client connections that are there now.
///
/// # Errors
/// When the kernel does not show its socket table.
pub fn connections(ports: &Ports) -> std::io::Result<Vec<Connection>> {
    let table = socket::sockets()?;
    let own = own_addresses(&table);
    let connections = table.iter().filter_map(|socket| connection(socket, ports));
    Ok(connections.filter(|connection| !own.contains(&connection.peer)).collect())
}

fn own_addresses(table: &[Socket]) -> HashSet<SocketAddr> {
    let inode =
        |(_, target): (i32, String)| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    let own: HashSet<u64> = own::descriptors().into_iter().filter_map(inode).collect();
    table.iter().filter(|socket| own.contains(&socket.inode)).map(|socket| socket.local).collect()
}

/// How many each worker has.
pub fn count(ports: &Ports) -> BTreeMap<WorkerName, u32> {
    let mut counts = BTreeMap::new();
    for connection in connections(ports).unwrap_or_default() {
        *counts.entry(connection.worker).or_default() += 1;
    }
    counts
}

/// The connections with the processes at their other end: they are on the same machine.
pub fn reports(connections: &[Connection]) -> Vec<ClientReport> {
    let peers: Vec<_> = connections.iter().map(|connection| connection.peer).collect();
    let processes = processes_at(&peers);
    let report = |connection: &Connection| ClientReport {
        worker: connection.worker.clone(),
        peer: connection.peer.to_string(),
        process: processes.get(&connection.peer).cloned(),
        left_after_ms: None,
    };
    connections.iter().map(report).collect()
}

/// The processes that have sockets at these addresses.
pub fn processes_at(peers: &[SocketAddr]) -> HashMap<SocketAddr, ProcessInfo> {
    let table = socket::sockets().unwrap_or_default();
    let inode_at: HashMap<SocketAddr, u64> =
        table.iter().filter(|socket| socket.inode != 0).map(|socket| (socket.local, socket.inode)).collect();
    let inodes: HashSet<u64> = peers.iter().filter_map(|peer| inode_at.get(peer).copied()).collect();
    let owners = match inodes.is_empty() {
        true => HashMap::new(),
        false => socket::owners(&inodes),
    };
    let process = |peer: &SocketAddr| {
        let pid = owners.get(inode_at.get(peer)?)?.first()?;
        process::describe(*pid)
    };
    peers.iter().filter_map(|peer| Some((*peer, process(peer)?))).collect()
}

fn connection(socket: &Socket, ports: &Ports) -> Option<Connection> {
    let worker = ports.get(&Port::new(socket.local.port())?)?;
    let there = match socket.state {
        TcpState::Established | TcpState::SynReceived => true,
        TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing => true,
        TcpState::FinWait2 | TcpState::TimeWait | TcpState::CloseWait | TcpState::Close => false,
        TcpState::Listen | TcpState::SynSent => false,
    };
    there.then(|| Connection { worker: worker.clone(), peer: socket.peer })
}
