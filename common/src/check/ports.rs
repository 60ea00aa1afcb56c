//! Checks whether ports can be bound again, and if not, which processes hold them (R-VER-2).
//!
//! The socket table is read first. A port with a listener is not probed, so that a worker that serves is
//! not disturbed; any other port is probed by binding it.

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
    /// Closed connections are in `TIME_WAIT`: it can be bound with `SO_REUSEADDR` only, or not at all until they
    /// expire if the server did not set the option. No process holds it: not a leak.
    TimeWait,
    /// Its worker runs and listens on it.
    Serving,
    /// Another process listens on it, or it can't be bound.
    InUse,
    /// Its worker, or mcpd for it, listens on it, but the worker is not ready. Only a daemon knows that.
    NotReady,
}

/// A process with a socket on the port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortHolder {
    /// `None` if the kernel hides it (another user's process).
    pub pid: Option<Pid>,
    /// The command line, or "unknown process".
    pub command: String,
    /// The owner of the process, else of the socket.
    pub user: String,
    /// The state of the socket: `LISTEN`, `ESTABLISHED`.
    pub state: String,
    /// The local address of the socket.
    pub address: String,
    /// The worker that the process belongs to; `None` for processes outside this daemon.
    pub worker: Option<WorkerName>,
}

/// The result of checking one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortReport {
    /// The port that was checked.
    pub port: Port,
    /// The worker that the port is configured for, if any.
    pub worker: Option<WorkerName>,
    /// Whether it can be bound, and if not, why.
    pub state: PortState,
    /// The addresses on which it can't be bound, with the error: `[::1]:8081: address in use`.
    pub refused: Vec<String>,
    /// One element for each socket and process.
    pub holders: Vec<PortHolder>,
    /// Number of connections in `TIME_WAIT`.
    pub time_wait: u32,
    /// Seconds until the last of them expires.
    pub time_wait_seconds: u32,
}

/// A port to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPort {
    /// The port to check.
    pub port: Port,
    /// The worker that the port is configured for, if any.
    pub worker: Option<WorkerName>,
}

/// Checks these ports with a single snapshot of the socket table. `worker_of` returns the worker that a
/// process belongs to.
pub fn examine(ports: &[KnownPort], worker_of: &dyn Fn(Pid) -> Option<WorkerName>) -> Vec<PortReport> {
    let table = Table::read(ports);
    // Finding the owners reads the descriptors of all processes: once for all ports, and not if all are free.
    let owners = socket::owners(&table.held_inodes());
    ports.iter().map(|known| table.report(known, &owners, worker_of)).collect()
}

/// The sockets on the ports in question.
struct Table {
    by_port: HashMap<u16, Vec<Socket>>,
}

impl Table {
    /// If the system's socket table can't be read, this one is empty: only the probes decide, and no holder
    /// is named.
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
        worker_of: &dyn Fn(Pid) -> Option<WorkerName>,
    ) -> PortReport {
        let sockets = self.on(known.port);
        let holders: Vec<_> = sockets.iter().flat_map(|socket| holders(socket, owners, worker_of)).collect();
        let has_listener = sockets.iter().any(|socket| socket.state == TcpState::Listen);
        let (state, refused) = if has_listener {
            (state_with_listener(known, &holders), Vec::new())
        } else {
            state_without_listener(known.port, sockets)
        };
        let (time_wait, time_wait_seconds) = count_time_wait(sockets);
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

fn state_with_listener(known: &KnownPort, holders: &[PortHolder]) -> PortState {
    let listeners: Vec<_> = holders.iter().filter(|holder| holder.state == TcpState::Listen.name()).collect();
    let all_of_its_worker = !listeners.is_empty()
        && known.worker.is_some()
        && listeners.iter().all(|holder| holder.worker == known.worker);
    if all_of_its_worker { PortState::Serving } else { PortState::InUse }
}

/// A server that does not set `SO_REUSEADDR` leaves `TIME_WAIT` sockets that let no bind pass, not even one with
/// the option (tcp(7) and the kernel's `inet_csk_bind_conflict`). No process holds them (R-VER-6).
fn state_without_listener(port: Port, sockets: &[Socket]) -> (PortState, Vec<String>) {
    let only_time_wait =
        !sockets.is_empty() && sockets.iter().all(|socket| socket.state == TcpState::TimeWait);
    match probe(port) {
        Bindable::No { refused } if only_time_wait => (PortState::TimeWait, refused),
        Bindable::Free => (PortState::Free, Vec::new()),
        Bindable::WithReuse { refused } => (PortState::TimeWait, refused),
        Bindable::No { refused } => (PortState::InUse, refused),
    }
}

/// The number of connections in `TIME_WAIT`, and the seconds until the last of them expires.
fn count_time_wait(sockets: &[Socket]) -> (u32, u32) {
    let waiting: Vec<_> = sockets.iter().filter(|socket| socket.state == TcpState::TimeWait).collect();
    let longest = waiting.iter().filter_map(|socket| socket.timer).max().unwrap_or_default();
    let seconds = longest.as_millis().div_ceil(1000);
    (u32::try_from(waiting.len()).unwrap_or(u32::MAX), u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// All processes that hold this socket. A socket that no process holds (inode 0, as in `TIME_WAIT`) has no
/// holder. For a socket whose owner the kernel hides, only the user is known.
fn holders(
    socket: &Socket,
    owners: &HashMap<u64, Vec<Pid>>,
    worker_of: &dyn Fn(Pid) -> Option<WorkerName>,
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
        PortHolder {
            pid,
            command,
            user,
            state: socket.state.to_string(),
            address: socket.local.to_string(),
            worker: pid.and_then(worker_of),
        }
    };
    match owners.get(&socket.inode) {
        Some(pids) => pids.iter().map(|pid| holder(Some(*pid))).collect(),
        None => vec![holder(None)],
    }
}

impl PortReport {
    /// One sentence without a full stop: "port 8081 is held by python3 server.py (pid 4711, user kim, LISTEN
    /// on 127.0.0.1:8081)".
    pub fn holders_sentence(&self) -> String {
        let port = self.port;
        match (self.holders.as_slice(), self.refused.as_slice()) {
            ([], []) => format!("port {port} has no holder"),
            ([], refused) => {
                format!(
                    "port {port} can't be bound ({}); its holder can't be read (another user's process)",
                    refused.join("; ")
                )
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
