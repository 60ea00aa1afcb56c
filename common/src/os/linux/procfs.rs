//! Processes, read from `/proc`. A file that is gone or not readable by this user is `None` or empty, never
//! an error: the process may have exited since it was listed.

use std::fs::{self, File};
use std::io::Read;
use std::sync::OnceLock;

use super::{parse, pid_of_name};
use crate::ids::{Mark, Pid};
use crate::os::lookup::{CannotLook, Listing, found};
use crate::os::process_data::Process;

/// Size of a buffer for the list of children of most processes, in bytes.
const PAGE: usize = 4096;
/// Longest command line that is read, in bytes; it is shown in reports only.
const COMMAND_LIMIT: u64 = 4096;

/// The process with this pid.
pub fn read(pid: Pid) -> Result<Option<Process>, CannotLook> {
    // The buffer holds any stat line, and avoids a request for the file size, which is 0 in /proc.
    let mut buffer = [0; 2048];
    let file = File::open(format!("/proc/{pid}/stat"));
    let length = found(file.and_then(|mut file| file.read(&mut buffer)))?;
    Ok(length.and_then(|length| parse::stat(&buffer[..length])))
}

/// The pids of all processes.
pub fn pids() -> Result<Vec<Pid>, CannotLook> {
    entries("/proc")
}

/// The pids or thread ids that a directory of `/proc` lists.
fn entries(directory: &str) -> Result<Vec<Pid>, CannotLook> {
    let mut pids = Vec::new();
    for entry in found(fs::read_dir(directory))?.into_iter().flatten() {
        pids.extend(found(entry)?.and_then(|entry| pid_of_name(&entry.file_name())));
    }
    Ok(pids)
}

/// The direct children of a process, which are those of all its threads. Needs [`has_lists_of_children`].
pub fn children(pid: Pid) -> Listing<Pid> {
    let mut children = Listing::default();
    for thread in children.record(entries(&format!("/proc/{pid}/task"))) {
        let of_thread = children.record(children_of_thread(pid, thread));
        children.extend(of_thread.into_iter().flatten());
    }
    children
}

/// The children of one thread. Most processes have only one, which is named like the process.
pub fn children_of_thread(pid: Pid, thread: Pid) -> Result<Option<Vec<Pid>>, CannotLook> {
    let mut text = String::with_capacity(PAGE);
    let file = File::open(format!("/proc/{pid}/task/{thread}/children"));
    // `take` avoids a request for the file size, which is 0 in /proc.
    let length = found(file.and_then(|file| file.take(u64::MAX).read_to_string(&mut text)))?;
    let pids = text.split_ascii_whitespace().filter_map(|number| number.parse().ok().and_then(Pid::new));
    Ok(length.map(|_| pids.collect()))
}

/// Whether the kernel lists the children of threads (`CONFIG_PROC_CHILDREN`).
pub fn has_lists_of_children() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| fs::exists("/proc/thread-self/children").unwrap_or(false))
}

/// Whether the process has other threads than its leader.
pub fn has_other_threads(pid: Pid) -> Result<bool, CannotLook> {
    Ok(entries(&format!("/proc/{pid}/task"))?.into_iter().any(|thread| thread != pid))
}

/// The command line, arguments joined by spaces. Empty for a zombie or a thread of the kernel.
pub fn command_line(pid: Pid) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(COMMAND_LIMIT).read_to_end(&mut bytes).ok()?;
    Some(parse::printable(&bytes))
}

/// The effective user id.
pub fn owner(pid: Pid) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    // real, effective, saved, file system
    parse::status_field(&status, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The process that traces this one with ptrace(2).
pub fn tracer(pid: Pid) -> Option<Pid> {
    let thread = status_pid(pid, "TracerPid")?;
    // TracerPid may name a thread; people look for its process.
    status_pid(thread, "Tgid").or(Some(thread))
}

fn status_pid(pid: Pid, field: &str) -> Option<Pid> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    parse::status_field(&status, field)?.parse().ok().and_then(Pid::new)
}

/// The mark, which is carried in a resource limit.
pub fn mark(pid: Pid) -> Result<Option<Mark>, CannotLook> {
    let limits = found(fs::read(format!("/proc/{pid}/limits")))?;
    Ok(limits.and_then(|limits| parse::file_locks_limit(&limits)).and_then(Mark::from_limit))
}

/// A variable of the environment at its last exec(2).
pub fn environment(pid: Pid, variable: &str) -> Result<Option<String>, CannotLook> {
    let block = found(fs::read(format!("/proc/{pid}/environ")))?;
    Ok(block.and_then(|block| parse::variable(&block, variable)))
}
