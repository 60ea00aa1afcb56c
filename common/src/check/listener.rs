//! The proof that the process that listens on a worker's port belongs to that worker (R-SUP-7).
//!
//! A port that was assigned to a worker may be bound by another process first, even by another user's. What is
//! sent to the port would then reach that process. So the kernel's socket table and the descriptors of the
//! worker's processes decide, not the fact that a connection is accepted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::ids::{Mark, Pid, Port};
use crate::os::process;
use crate::os::socket::{self, Socket};
use crate::os::{this_process, user_name};

/// Root may do anything anyway; its listener may be the port proxy of a container engine.
const ROOT: u32 = 0;

/// The addresses that a worker may listen on for the proxy, in order of preference.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Which processes count as the worker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOwner {
    /// The leader of the worker's family.
    pub leader: Pid,
    /// The mark of the family.
    pub mark: Mark,
    /// Whether every process of this user counts, as for the port proxy of a container engine.
    pub trusts_user: bool,
}

/// What listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Listener {
    /// Processes of the worker.
    Own(ProvenListener),
    /// Another process; a sentence that names it.
    Foreign(String),
    /// Nothing.
    None,
}

/// The sockets that a connection reaches, all of them the worker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenListener {
    sockets: Vec<(IpAddr, BTreeSet<u64>)>,
    /// The processes of the worker that hold them.
    holders: BTreeSet<Pid>,
}

impl ProvenListener {
    /// The loopback addresses at which the worker is reached, the preferred one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.sockets.iter().map(|(address, _)| *address)
    }

    /// Whether a connection to this address still reaches the same sockets, if these are the listening ones. The
    /// kernel gives the number of a socket to no other one while it exists.
    pub fn is_unchanged(&self, address: SocketAddr, listening: &[Socket]) -> bool {
        let Some((_, proven)) = self.sockets.iter().find(|(ip, _)| *ip == address.ip()) else { return false };
        receiving(listening, address).map(|socket| socket.inode).collect::<BTreeSet<_>>() == *proven
    }

    /// Whether a process of the worker closed them. The leader's own are not looked at: another one has others.
    pub fn has_lost_a_holder(&self, owner: &ListenerOwner) -> bool {
        let holds = |pid: &Pid| {
            let held = socket::held_by(*pid);
            self.sockets.iter().any(|(_, inodes)| inodes.iter().any(|inode| held.contains(inode)))
        };
        self.others(owner).any(|pid| !holds(pid))
    }

    /// Whether a process of the worker holds them beside its leader.
    pub fn is_held_by_others(&self, owner: &ListenerOwner) -> bool {
        self.others(owner).next().is_some()
    }

    fn others(&self, owner: &ListenerOwner) -> impl Iterator<Item = &Pid> {
        let leader = owner.leader;
        self.holders.iter().filter(move |pid| **pid != leader)
    }

    /// Whether a process that held these sockets does not hold any of the later ones.
    #[must_use]
    pub fn was_replaced_by(&self, later: &Self) -> bool {
        self.holders.iter().any(|pid| !later.holders.contains(pid))
    }
}

/// Finds out what listens on this port.
///
/// # Errors
/// When the socket table can't be read.
pub fn examine(port: Port, owner: &ListenerOwner) -> io::Result<Listener> {
    let sockets = socket::listeners_on(port.get())?;
    if sockets.is_empty() {
        return Ok(Listener::None);
    }
    let judge = Judge::of(owner, &sockets);
    let mut own = vec![];
    let mut holders = BTreeSet::new();
    let mut foreign = None;
    for address in LOOPBACK {
        let reached: Vec<_> = receiving(&sockets, SocketAddr::new(address, port.get())).collect();
        match reached.iter().find_map(|socket| judge.objection(socket)) {
            Some(objection) => foreign = foreign.or(Some(objection)),
            None if reached.is_empty() => {}
            None => {
                holders.extend(reached.iter().flat_map(|socket| judge.pids(socket)));
                own.push((address, reached.iter().map(|socket| socket.inode).collect()));
            }
        }
    }
    Ok(match foreign {
        _ if !own.is_empty() => Listener::Own(ProvenListener { sockets: own, holders }),
        Some(objection) => Listener::Foreign(objection),
        None => Listener::None,
    })
}

/// The addresses on which the worker's processes listen.
///
/// # Errors
/// When the socket table can't be read.
pub fn addresses_of(owner: &ListenerOwner) -> io::Result<Vec<SocketAddr>> {
    let sockets = socket::listeners()?;
    let judge = Judge::of(owner, &sockets);
    let own = sockets.iter().filter(|socket| judge.is_of_family(socket));
    Ok(own.map(|socket| socket.local).collect())
}

/// The listening sockets that a connection to this address may reach: those bound to the address itself, else those
/// bound to all addresses. The kernel prefers the more specific one (`compute_score` in inet_hashtables.c).
fn receiving(sockets: &[Socket], address: SocketAddr) -> impl Iterator<Item = &Socket> {
    let wildcard = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // A socket on `::` receives IPv4 connections as well, unless it is limited to IPv6.
    let choices = [address.ip(), wildcard, IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let mut choices = choices.into_iter().map(|ip| SocketAddr::new(ip, address.port()));
    let chosen = choices.find(|choice| sockets.iter().any(|socket| socket.local == *choice));
    sockets.iter().filter(move |socket| Some(socket.local) == chosen)
}

/// Decides for each socket whether it is the worker's.
struct Judge<'a> {
    owner: &'a ListenerOwner,
    family: HashSet<Pid>,
    holders: HashMap<u64, Vec<Pid>>,
}

impl<'a> Judge<'a> {
    fn of(owner: &'a ListenerOwner, sockets: &[Socket]) -> Self {
        let tree = process::best_effort::tree(owner.leader);
        let family: HashSet<Pid> = tree.iter().map(|process| process.pid).chain([owner.leader]).collect();
        let inodes = sockets.iter().map(|socket| socket.inode).collect();
        let holders = holders(&inodes, &family);
        Self { owner, family, holders }
    }

    /// Why the socket is not the worker's; `None` if it is.
    fn objection(&self, socket: &Socket) -> Option<String> {
        let is_own = self.is_of_family(socket) || self.is_trusted(socket);
        (!is_own).then(|| self.describe(socket))
    }

    fn is_of_family(&self, socket: &Socket) -> bool {
        self.pids(socket)
            .iter()
            .any(|pid| self.family.contains(pid) || process::best_effort::mark(*pid) == Some(self.owner.mark))
    }

    /// Never a process of another worker, whatever its user is.
    fn is_trusted(&self, socket: &Socket) -> bool {
        let pids = self.pids(socket);
        let of_another_worker =
            |pid: &Pid| process::best_effort::mark(*pid).is_some_and(|mark| mark.run == self.owner.mark.run);
        if pids.iter().any(of_another_worker) {
            return false;
        }
        let own_user = this_process::user();
        let is_roots = socket.uid == ROOT && own_user != ROOT;
        let users = || self.family.iter().filter_map(|pid| process::user(*pid));
        // The descriptors of a process that changed its user, or that may not be dumped, can't be read.
        let is_unreadable = pids.is_empty();
        is_roots
            || self.owner.trusts_user && socket.uid == own_user
            || is_unreadable && (socket.uid == own_user || users().any(|user| user == socket.uid))
    }

    fn describe(&self, socket: &Socket) -> String {
        let holder = self.pids(socket).iter().find_map(|pid| process::describe(*pid));
        let holder = holder
            .map_or_else(|| format!("a process of {}", user_name(socket.uid)), |process| process.to_string());
        format!("{} is held by {holder}, which does not belong to this worker", socket.local)
    }

    fn pids(&self, socket: &Socket) -> &[Pid] {
        self.holders.get(&socket.inode).map_or(&[], Vec::as_slice)
    }
}

/// The processes that hold these sockets. The family is examined first: nearly always it holds them, and the
/// descriptors of all processes of the machine take a hundred times as long.
fn holders(inodes: &HashSet<u64>, family: &HashSet<Pid>) -> HashMap<u64, Vec<Pid>> {
    let mut found: HashMap<u64, Vec<Pid>> = HashMap::new();
    for pid in family {
        for inode in socket::held_by(*pid).intersection(inodes) {
            found.entry(*inode).or_default().push(*pid);
        }
    }
    if found.len() == inodes.len() { found } else { socket::owners(inodes) }
}

#[cfg(test)]
mod tests;
