//! Open descriptors of processes, read from `/proc/PID/fd`.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::hash::Hash;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};

use crate::ids::Pid;
use crate::os::lookup::{CannotLook, found};
use crate::os::process_data::PipeId;

/// The processes that hold these sockets, by inode.
pub fn owners(inodes: &HashSet<u64>) -> HashMap<u64, Vec<Pid>> {
    let mut owners: HashMap<u64, Vec<Pid>> = HashMap::new();
    if inodes.is_empty() {
        return owners;
    }
    // Owners are named in reports; one that can't be read is reported as unknown.
    for pid in super::pids().unwrap_or_default() {
        for inode in sockets_of(pid).intersection(inodes) {
            owners.entry(*inode).or_default().push(pid);
        }
    }
    owners
}

/// The inodes of the sockets that a process holds; none if its descriptors can't be read.
pub fn sockets_of(pid: Pid) -> HashSet<u64> {
    targets_of(pid, |target| inode(b"socket:[", target)).unwrap_or_default()
}

/// The pipes that a process holds; none if its descriptors are not readable by this user.
pub fn pipes(pid: Pid) -> Result<HashSet<PipeId>, CannotLook> {
    targets_of(pid, |target| inode(b"pipe:[", target).map(PipeId))
}

/// The pipe behind one of our own descriptors; both ends have the same id here.
pub fn pipe_of(descriptor: BorrowedFd<'_>) -> Option<PipeId> {
    let target = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()?;
    inode(b"pipe:[", target.as_os_str().as_bytes()).map(PipeId)
}

/// The wanted ones among the targets of the descriptors of a process.
fn targets_of<T: Eq + Hash>(pid: Pid, wanted: impl Fn(&[u8]) -> Option<T>) -> Result<HashSet<T>, CannotLook> {
    let mut targets = HashSet::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, format!("/proc/{pid}/fd"), flags, Mode::empty()).map_err(Into::into);
    let Some(directory) = found(directory)? else { return Ok(targets) };
    let Some(listing) = found(Dir::read_from(&directory).map_err(Into::into))? else { return Ok(targets) };
    let mut buffer = Vec::new();
    for entry in listing.flatten() {
        buffer.clear();
        // Relative to the open directory, which saves building and walking a path for each descriptor.
        let Ok(target) = readlinkat(&directory, entry.file_name(), std::mem::take(&mut buffer)) else {
            continue;
        };
        targets.extend(wanted(target.as_bytes()));
        buffer = target.into_bytes();
    }
    Ok(targets)
}

/// The number in `socket:[12345]`, where `kind` is `socket:[`.
fn inode(kind: &[u8], target: &[u8]) -> Option<u64> {
    let number = target.strip_prefix(kind)?.strip_suffix(b"]")?;
    str::from_utf8(number).ok()?.parse().ok()
}

/// Our own descriptors, each with its target.
pub fn descriptors() -> Vec<(i32, String)> {
    // The scan itself needs a descriptor, which is left out.
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
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_sockets_have_a_socket_inode() {
        assert_eq!(inode(b"socket:[", b"socket:[12345]"), Some(12345));
        for other in ["pipe:[12345]", "socket:[]", "socket:[x]", "socket:[1", "/dev/null", ""] {
            assert_eq!(inode(b"socket:[", other.as_bytes()), None, "{other}");
        }
    }

    /// R-CONT-7: the processes that hold a worker's output are found by it.
    #[test]
    fn a_pipe_is_found_with_its_holders() {
        let (read, write) = std::io::pipe().expect("a pipe");
        let pipe = pipe_of(write.as_fd()).expect("it is one");
        assert_eq!(pipe_of(read.as_fd()), Some(pipe));
        let holds = |pid: Pid| pipes(pid).expect("descriptors are left").contains(&pipe);
        assert!(holds(Pid::current()));
        let mut child =
            std::process::Command::new("sleep").arg("60").stdout(write).spawn().expect("sleep(1)");
        drop(read);
        let pid = Pid::new(child.id().cast_signed()).expect("positive");
        assert!(holds(pid));
        assert!(!holds(Pid::current()), "closed here");
        child.kill().expect("our child");
        child.wait().expect("our child");
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(pipe_of(file.as_fd()), None);
    }
}
