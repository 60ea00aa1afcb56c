//! TCP sockets, by asking every process for its own. There is no table of all: seen is what a process that
//! we may look at (one of this user's; for root, any) holds, and nothing that no process holds any more
//! (`TIME_WAIT`).

use std::collections::{HashMap, HashSet};
use std::ffi::c_int;
use std::io;

use nix::libc;

use super::pids;
use super::pipe_info::descriptors;
use crate::ids::Pid;
use crate::os::socket::{Socket, TcpState};
use crate::os::sockinfo::{self, SIZE};

/// `PROC_PIDFDSOCKETINFO`.
const SOCKET_INFO: c_int = 3;

/// Whether also sockets of others, and of nobody, are shown.
pub const SHOWS_EVERY_SOCKET: bool = false;

/// All that are held by somebody, each once however many hold it.
pub fn sockets() -> io::Result<Vec<Socket>> {
    let mut seen = HashSet::new();
    let all = pids().into_iter().flat_map(held_by);
    Ok(all.filter(|socket| seen.insert(socket.inode)).collect())
}

/// Those that wait for connections.
pub fn listeners() -> io::Result<Vec<Socket>> {
    let mut sockets = sockets()?;
    sockets.retain(|socket| socket.state == TcpState::Listen);
    Ok(sockets)
}

/// Those that have another side.
pub fn connections() -> io::Result<Vec<Socket>> {
    let mut sockets = sockets()?;
    sockets.retain(|socket| socket.state.is_connected());
    Ok(sockets)
}

/// Who holds them: all of them for each.
pub fn owners(names: &HashSet<u64>) -> HashMap<u64, Vec<Pid>> {
    let mut found: HashMap<u64, Vec<Pid>> = HashMap::new();
    for pid in pids() {
        for name in sockets_of(pid).intersection(names) {
            found.entry(*name).or_default().push(pid);
        }
    }
    found
}

/// The names of those that a process holds; none if it is closed to us.
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
    // SAFETY: the kernel writes at most `size` bytes to memory of that size; a descriptor that is no socket
    // any more is an error.
    let written =
        unsafe { libc::proc_pidfdinfo(pid.get(), descriptor, SOCKET_INFO, bytes.as_mut_ptr().cast(), size) };
    (written == size).then(|| sockinfo::parse(&bytes)).flatten()
}
