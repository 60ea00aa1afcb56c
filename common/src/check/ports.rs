//! Ports: can they be bound again, and if not, who holds them (R-VER-2).
//!
//! The socket table decides first: a port on which somebody listens is never probed, so that a
//! worker that serves is not disturbed. Only then is it tried by binding.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::ids::{Pid, Port, WorkerName};
use crate::os::process;
use crate::os::socket::{self, Socket, TcpState};
use crate::os::user_name;

mod probe;

pub use probe::is_bindable;
use probe::{Bindable, probe};

/// The `schema` of a [`PortReport`] in JSON.
pub const PORT_SCHEMA: &str = "mcpd.port.v1";

/// Whether a port can be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// It can be bound on every address, with and without `SO_REUSEADDR`.
    Free,
    /// It can be bound with `SO_REUSEADDR`; only past connections linger. Not a leak.
    TimeWait,
    /// One of our workers, which runs, listens on it.
    Serving,
    /// Somebody holds it.
    InUse,
}

/// A process with a socket on the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHolder {
    /// Its pid; `None` where the kernel hides it (another user's process).
    pub pid: Option<Pid>,
    /// Its command line.
    pub command: String,
    /// Its user.
    pub user: String,
    /// The socket's state: `LISTEN`, `ESTABLISHED`.
    pub state: String,
    /// The socket's local address.
    pub address: String,
    /// The worker it belongs to, if it is one of ours.
    pub worker: Option<WorkerName>,
}

/// What was seen of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// The port.
    pub port: Port,
    /// The worker whose port it is.
    pub worker: Option<WorkerName>,
    /// Whether it can be bound.
    pub state: PortState,
    /// The addresses on which it can't be bound, with the error: `[::1]:8081: address in use`.
    pub refused: Vec<String>,
    /// All its holders.
    pub holders: Vec<PortHolder>,
    /// Connections in `TIME_WAIT`.
    pub time_wait: u32,
    /// Seconds until the last of them is forgotten.
    pub time_wait_seconds: u32,
}

/// A port to look at, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPort {
    /// The port.
    pub port: Port,
    /// The worker it is for, if any.
    pub worker: Option<WorkerName>,
}

/// Looks at all these ports with one view of the socket table. `ours` says to which worker a
/// process belongs.
pub fn examine(ports: &[KnownPort], ours: &dyn Fn(Pid) -> Option<WorkerName>) -> Vec<PortReport> {
    let table = Table::read(ports);
    // Owners are looked up once for all, and not at all when every port is free.
    let owners = socket::owners(&table.held_inodes());
    ports.iter().map(|known| table.report(known, &owners, ours)).collect()
}

/// The sockets on the ports in question.
struct Table {
    by_port: HashMap<u16, Vec<Socket>>,
}

impl Table {
    /// Without a table (the system gives none) the probes alone decide, and no holder is named.
    fn read(ports: &[KnownPort]) -> Self {
        let wanted: HashSet<u16> = ports.iter().map(|known| known.port.get()).collect();
        let mut by_port: HashMap<u16, Vec<Socket>> = HashMap::new();
        for socket in socket::sockets().unwrap_or_default() {
            let port = socket.local.port();
            if wanted.contains(&port) {
                by_port.entry(port).or_default().push(socket);
            }
        }
        Self { by_port }
    }

    fn on(&self, port: Port) -> &[Socket] {
        self.by_port.get(&port.get()).map_or(&[], Vec::as_slice)
    }

    fn held_inodes(&self) -> HashSet<u64> {
        self.by_port.values().flatten().map(|socket| socket.inode).filter(|inode| *inode != 0).collect()
    }

    fn report(
        &self,
        known: &KnownPort,
        owners: &HashMap<u64, Vec<Pid>>,
        ours: &dyn Fn(Pid) -> Option<WorkerName>,
    ) -> PortReport {
        let sockets = self.on(known.port);
        let holders: Vec<_> = sockets.iter().flat_map(|socket| holders(socket, owners, ours)).collect();
        let (state, refused) = match sockets.iter().any(|socket| socket.state == TcpState::Listen) {
            true => (listened(known, &holders), Vec::new()),
            false => probed(known.port),
        };
        let (time_wait, time_wait_seconds) = lingering(sockets);
        PortReport {
            port: known.port,
            worker: known.worker.clone(),
            state,
            refused,
            holders,
            time_wait,
            time_wait_seconds,
        }
    }
}

/// The state of a port on which somebody listens.
fn listened(known: &KnownPort, holders: &[PortHolder]) -> PortState {
    let is_listener = |holder: &&PortHolder| holder.state == TcpState::Listen.name();
    let listeners: Vec<_> = holders.iter().filter(is_listener).collect();
    let known_to_all = known.worker.is_some() && listeners.iter().all(|holder| holder.worker == known.worker);
    match known_to_all && !listeners.is_empty() {
        true => PortState::Serving,
        false => PortState::InUse,
    }
}

/// The state of a port on which nobody listens.
fn probed(port: Port) -> (PortState, Vec<String>) {
    match probe(port) {
        Bindable::Free => (PortState::Free, Vec::new()),
        Bindable::WithReuse { refused } => (PortState::TimeWait, refused),
        Bindable::No { refused } => (PortState::InUse, refused),
    }
}

/// How many connections are past, and when the last of them is forgotten.
fn lingering(sockets: &[Socket]) -> (u32, u32) {
    let past = || sockets.iter().filter(|socket| socket.state == TcpState::TimeWait);
    let longest = past().filter_map(|socket| socket.timer).max().unwrap_or_default();
    let seconds = longest.as_millis().div_ceil(1000);
    (u32::try_from(past().count()).unwrap_or(u32::MAX), u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// All processes that hold this socket. One that is in nobody's hands (a past connection) has none;
/// one that is, but out of our sight, is told by its user.
fn holders(
    socket: &Socket,
    owners: &HashMap<u64, Vec<Pid>>,
    ours: &dyn Fn(Pid) -> Option<WorkerName>,
) -> Vec<PortHolder> {
    if socket.inode == 0 {
        return Vec::new();
    }
    let holder = |pid: Option<Pid>| {
        let info = pid.and_then(process::describe);
        let (command, user) = match info {
            Some(info) => (info.command, info.user),
            None => ("unknown process".to_owned(), user_name(socket.uid)),
        };
        let worker = pid.and_then(ours);
        let (state, address) = (socket.state.to_string(), socket.local.to_string());
        PortHolder { pid, command, user, state, address, worker }
    };
    match owners.get(&socket.inode) {
        Some(pids) => pids.iter().map(|pid| holder(Some(*pid))).collect(),
        None => vec![holder(None)],
    }
}

impl PortReport {
    /// Who holds it: "port 8081 is held by python3 server.py (pid 4711, user kim, LISTEN on
    /// 127.0.0.1:8081)".
    pub fn holders_sentence(&self) -> String {
        let port = self.port;
        match (self.holders.as_slice(), self.refused.as_slice()) {
            ([], []) => format!("port {port} is held by nobody"),
            ([], refused) => {
                format!("port {port} can't be bound ({}), and no holder can be seen", refused.join("; "))
            }
            (holders, _) => {
                let holders: Vec<_> = holders.iter().map(ToString::to_string).collect();
                format!("port {port} is held by {}", holders.join(", "))
            }
        }
    }
}

impl std::fmt::Display for PortHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { command, user, state, address, .. } = self;
        match self.pid {
            Some(pid) => write!(f, "{command} (pid {pid}, user {user}, {state} on {address})"),
            None => write!(f, "{command} (user {user}, {state} on {address})"),
        }
    }
}

#[cfg(test)]
mod tests;
