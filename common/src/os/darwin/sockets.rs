//! TCP sockets, read from the descriptors of each process: macOS has no readable table of all sockets. So
//! sockets of other users' processes (unless run by root) and sockets without a process (`TIME_WAIT`) are
//! missing.

use std::collections::{HashMap, HashSet};
use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;

use nix::libc;

use super::pids;
use super::pipe_info::descriptors;
use crate::ids::Pid;
use crate::os::sockinfo::{self, SIZE};
use crate::os::tcp::{Socket, TcpState};

/// `PROC_PIDFDSOCKETINFO`.
const SOCKET_INFO: c_int = 3;

/// Whether sockets of other users, and those that no process holds any more, are listed.
pub const SHOWS_EVERY_SOCKET: bool = false;

/// All sockets, each once even if several processes hold it.
pub fn sockets() -> io::Result<Vec<Socket>> {
    let mut ids = HashSet::new();
    let all = pids()?.into_iter().flat_map(held_by);
    Ok(all.filter(|socket| ids.insert(socket.inode)).collect())
}

/// The listening sockets.
pub fn listeners() -> io::Result<Vec<Socket>> {
    let mut sockets = sockets()?;
    sockets.retain(|socket| socket.state == TcpState::Listen);
    Ok(sockets)
}

/// The listening sockets with this local port.
pub fn listeners_on(port: u16) -> io::Result<Vec<Socket>> {
    let mut listeners = listeners()?;
    listeners.retain(|socket| socket.local.port() == port);
    Ok(listeners)
}

/// The sockets that have a peer.
pub fn connections() -> io::Result<Vec<Socket>> {
    let mut sockets = sockets()?;
    sockets.retain(|socket| socket.state.is_connected());
    Ok(sockets)
}

/// The socket with these addresses; `None` if there is none.
pub fn connection(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<Socket>> {
    Ok(connections()?.into_iter().find(|socket| (socket.local, socket.peer) == (local, peer)))
}

/// The processes that hold these sockets, by id.
pub fn owners(names: &HashSet<u64>) -> HashMap<u64, Vec<Pid>> {
    let mut found: HashMap<u64, Vec<Pid>> = HashMap::new();
    for pid in pids().unwrap_or_default() {
        for name in sockets_of(pid).intersection(names) {
            found.entry(*name).or_default().push(pid);
        }
    }
    found
}

/// The ids of the sockets that a process holds; none if its descriptors are not readable by this user.
pub fn sockets_of(pid: Pid) -> HashSet<u64> {
    held_by(pid).into_iter().map(|socket| socket.inode).collect()
}

fn held_by(pid: Pid) -> Vec<Socket> {
    let sockets =
        descriptors(pid).into_iter().filter(|one| one.proc_fdtype == libc::PROX_FDTYPE_SOCKET as u32);
    sockets.filter_map(|one| socket(pid, one.proc_fd)).collect()
}

fn socket(pid: Pid, descriptor: c_int) -> Option<Socket> {
    let mut bytes = [0u8; SIZE];
    let size = c_int::try_from(SIZE).ok()?;
    // SAFETY: the kernel writes at most `size` bytes to memory of that size; for a descriptor that is no
    // socket any more the call returns an error.
    let written =
        unsafe { libc::proc_pidfdinfo(pid.get(), descriptor, SOCKET_INFO, bytes.as_mut_ptr().cast(), size) };
    (written == size).then(|| sockinfo::parse(&bytes)).flatten()
}
