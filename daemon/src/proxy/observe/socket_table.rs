//! Client connections in the kernel's socket table.
//!
//! A connection counts while the client has it open, or bytes or mcpd's `FIN` are not
//! acknowledged: from `ESTABLISHED` to `FIN_WAIT1`. After that (`FIN_WAIT2`, `TIME_WAIT`) the client
//! has everything, and its own `FIN` is not awaited; in `CLOSE_WAIT` it has closed its side. For a client
//! on this machine the table has the other end as well: when no
//! process holds that end any more, the connection does not count, because loopback loses packets, too (a full queue
//! drops an `RST`). The daemon's own requests to its workers are not clients.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use mcpd_common::ids::{Pid, Port, WorkerName};
use mcpd_common::os::ProcessInfo;
use mcpd_common::os::process;
use mcpd_common::os::socket::{self, Socket, TcpState};
use mcpd_common::outcome::ClientReport;

use crate::client_ports::ClientPorts;

/// Both endpoints of a connection. The client's address alone is not unique: the kernel gives the same address to
/// several connections with different servers, also to one of mcpd with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoints {
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub server: SocketAddr,
}

/// A connection of a client to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientSocket {
    pub worker: WorkerName,
    pub endpoints: Endpoints,
}

/// All client connections.
///
/// # Errors
/// When the socket table can't be read.
pub fn connections(ports: &ClientPorts) -> std::io::Result<Vec<ClientSocket>> {
    let table = socket::connections()?;
    let own = own_requests(&table);
    let mut connections = clients_in(&table, ports);
    connections.retain(|connection| !own.contains(&connection.endpoints));
    Ok(connections)
}

fn clients_in(table: &[Socket], ports: &ClientPorts) -> Vec<ClientSocket> {
    let held: HashSet<Endpoints> = table.iter().filter(|socket| socket.inode != 0).map(as_client).collect();
    let is_shown = |endpoints: &Endpoints| socket::SHOWS_ALL && endpoints.client.ip().is_loopback();
    let is_there = |endpoints: &Endpoints| !is_shown(endpoints) || held.contains(endpoints);
    let connections = table.iter().filter_map(|socket| connection(socket, ports));
    connections.filter(|connection| is_there(&connection.endpoints)).collect()
}

/// Connections in which the daemon is the client.
fn own_requests(table: &[Socket]) -> HashSet<Endpoints> {
    let own = socket::own();
    table.iter().filter(|socket| own.contains(&socket.inode)).map(as_client).collect()
}

/// The number of connections of each worker.
pub fn count(ports: &ClientPorts) -> BTreeMap<WorkerName, u32> {
    let mut counts = BTreeMap::new();
    for connection in connections(ports).unwrap_or_default() {
        *counts.entry(connection.worker).or_default() += 1;
    }
    counts
}

/// The connections with the client processes, which are on the same machine.
pub fn reports(connections: &[ClientSocket]) -> Vec<ClientReport> {
    let endpoints: Vec<_> = connections.iter().map(|connection| connection.endpoints).collect();
    let processes = processes_at(&endpoints);
    let report = |connection: &ClientSocket| ClientReport {
        worker: connection.worker.clone(),
        peer: connection.endpoints.client.to_string(),
        process: processes.get(&connection.endpoints).cloned(),
        left_after_ms: None,
    };
    connections.iter().map(report).collect()
}

/// The processes at the clients' endpoints of these connections; of each, the first one that has the socket.
pub fn processes_at(connections: &[Endpoints]) -> HashMap<Endpoints, ProcessInfo> {
    let owners = owners_at(connections).into_iter();
    owners.filter_map(|(endpoints, pids)| Some((endpoints, process::describe(*pids.first()?)?))).collect()
}

/// All processes that have the clients' sockets of these connections, as far as they are readable.
pub fn owners_at(connections: &[Endpoints]) -> HashMap<Endpoints, Vec<Pid>> {
    let table = socket::connections().unwrap_or_default();
    let inode_of: HashMap<Endpoints, u64> = table
        .iter()
        .filter(|socket| socket.inode != 0)
        .map(|socket| (as_client(socket), socket.inode))
        .collect();
    let inodes: HashSet<u64> =
        connections.iter().filter_map(|endpoints| inode_of.get(endpoints).copied()).collect();
    let owners = if inodes.is_empty() { HashMap::new() } else { socket::owners(&inodes) };
    let pids = |endpoints: &Endpoints| owners.get(inode_of.get(endpoints)?).cloned();
    connections.iter().filter_map(|endpoints| Some((*endpoints, pids(endpoints)?))).collect()
}

/// The connection of which this socket is the client's end.
fn as_client(socket: &Socket) -> Endpoints {
    Endpoints { client: socket.local, server: socket.peer }
}

fn connection(socket: &Socket, ports: &ClientPorts) -> Option<ClientSocket> {
    let worker = ports.get(&Port::new(socket.local.port())?)?;
    let there = match socket.state {
        TcpState::Established | TcpState::SynReceived => true,
        TcpState::FinWait1 | TcpState::LastAck | TcpState::Closing => true,
        TcpState::FinWait2 | TcpState::TimeWait | TcpState::CloseWait | TcpState::Close => false,
        TcpState::Listen | TcpState::SynSent => false,
    };
    let endpoints = Endpoints { client: socket.peer, server: socket.local };
    there.then(|| ClientSocket { worker: worker.clone(), endpoints })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: u16, peer: u16) -> Socket {
        let at = |port| SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, port));
        Socket {
            local: at(local),
            peer: at(peer),
            state: TcpState::Established,
            inode: 1,
            uid: 0,
            receive_queue: 0,
            send_queue: 0,
            timer: None,
        }
    }

    /// R-CLIENT-5: a client whose own socket is gone is not waited for.
    #[test]
    fn a_client_without_its_own_end_has_left() {
        let (listener, name) =
            (Port::new(8080).expect("a port"), "alpha".parse::<WorkerName>().expect("a name"));
        let ports = ClientPorts::from([(listener, name)]);
        let ours = socket(8080, 40000);
        let its = socket(40000, 8080);
        let count = |table: &[Socket]| clients_in(table, &ports).len();
        assert_eq!(count(&[ours.clone(), its.clone()]), 1);
        assert_eq!(count(std::slice::from_ref(&ours)), 0, "vanished");
        let orphaned = Socket { inode: 0, state: TcpState::FinWait1, ..its.clone() };
        assert_eq!(count(&[ours.clone(), orphaned]), 0, "no process has it");
        let late = Socket { state: TcpState::CloseWait, ..its };
        let closed = Socket { state: TcpState::FinWait1, ..ours.clone() };
        assert_eq!(count(&[closed, late]), 1, "it has not taken its last bytes");
        let far = Socket { peer: ([192, 0, 2, 1], 40000).into(), ..ours };
        assert_eq!(count(&[far]), 1, "of a remote client only our end is in the table");
    }

    /// R-CLIENT-2: a client on 40000 calls the listener on 8080; we, on 40000 too, call the worker on 9090.
    #[test]
    fn a_client_is_not_taken_for_us_because_of_its_address() {
        let (listener, name) =
            (Port::new(8080).expect("a port"), "alpha".parse::<WorkerName>().expect("a name"));
        let ports = ClientPorts::from([(listener, name)]);
        let seen = connection(&socket(8080, 40000), &ports).expect("a client");
        assert_eq!(seen.endpoints, as_client(&socket(40000, 8080)));
        assert_ne!(seen.endpoints, as_client(&socket(40000, 9090)));
    }
}
