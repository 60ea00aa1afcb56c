//! What processes hold open, read from `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};

use crate::ids::Pid;

/// The processes that hold these sockets: all of them for each.
pub fn owners(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Pid>> {
    let mut found: HashMap<u64, Vec<Pid>> = HashMap::new();
    if inodes.is_empty() {
        return found;
    }
    for pid in super::pids() {
        for inode in sockets_of(pid).intersection(inodes) {
            found.entry(*inode).or_default().push(pid);
        }
    }
    found
}

/// The inodes of the sockets that a process holds; none if it is closed to us.
fn sockets_of(pid: Pid) -> HashSet<u64> {
    let mut found = HashSet::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = openat(CWD, format!("/proc/{pid}/fd"), flags, Mode::empty()) else { return found };
    let Ok(listing) = Dir::read_from(&directory) else { return found };
    let mut buffer = Vec::new();
    for entry in listing.flatten() {
        buffer.clear();
        // Relative to the open directory: no path is built or walked for each of them.
        let Ok(target) = readlinkat(&directory, entry.file_name(), std::mem::take(&mut buffer)) else {
            continue;
        };
        found.extend(socket_inode(target.as_bytes()));
        buffer = target.into_bytes();
    }
    found
}

/// The number in `socket:[12345]`.
fn socket_inode(target: &[u8]) -> Option<u64> {
    let number = target.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok()
}

/// Our own descriptors, each with what it leads to.
pub fn descriptors() -> Vec<(i32, String)> {
    // The listing needs a descriptor itself, which is closed before anybody reads the answer.
    let itself = format!("/proc/{}/fd", std::process::id());
    let Ok(listing) = fs::read_dir(&itself) else { return Vec::new() };
    let mut found: Vec<(i32, String)> = listing
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            (target != itself).then_some((number, target))
        })
        .collect();
    found.sort();
    found
}

/// Our own threads, each with its name.
pub fn threads() -> Vec<(i32, String)> {
    let Ok(listing) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut found: Vec<(i32, String)> = listing
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            Some((number, name.trim_end().to_owned()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(socket_inode(b"socket:[12345]"), Some(12345));
        for other in ["pipe:[12345]", "socket:[]", "socket:[x]", "socket:[1", "/dev/null", ""] {
            assert_eq!(socket_inode(other.as_bytes()), None, "{other}");
        }
    }
}
