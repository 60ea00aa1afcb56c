//! Processes, read from `/proc`. A file that is gone or closed to us is "nothing known", never
//! an error: the process may have vanished between two looks. That we could not look is noted (`os::sight`).

use std::fs::{self, File};
use std::io::Read;
use std::sync::OnceLock;

use super::{parse, pid_of_name};
use crate::ids::{Mark, Pid};
use crate::os::process::Process;
use crate::os::sight::seen;

/// What holds the children of most processes, in bytes.
const PAGE: usize = 4096;
/// Longest command line that is read; reports are for people.
const COMMAND_LIMIT: u64 = 4096;

/// The process with this pid.
pub fn read(pid: Pid) -> Option<Process> {
    // One page holds any stat line, and saves asking for a size that /proc does not know.
    let mut buffer = [0; 2048];
    let length = seen(File::open(format!("/proc/{pid}/stat")))?.read(&mut buffer).ok()?;
    parse::stat(&buffer[..length])
}

/// The pids of all processes.
pub fn pids() -> Vec<Pid> {
    entries("/proc")
}

/// The pids or thread ids that a directory of `/proc` lists.
fn entries(directory: &str) -> Vec<Pid> {
    let Some(listing) = seen(fs::read_dir(directory)) else { return Vec::new() };
    listing.filter_map(|entry| pid_of_name(&entry.ok()?.file_name())).collect()
}

/// The direct children of a process: those of all its threads. `None` where the kernel has no
/// such lists (they are an option of its configuration).
pub fn children(pid: Pid) -> Option<Vec<Pid>> {
    has_lists_of_children().then(|| {
        let threads = entries(&format!("/proc/{pid}/task"));
        threads.into_iter().filter_map(|thread| children_of_thread(pid, thread)).flatten().collect()
    })
}

/// The children of one thread. Most processes have only one, which is named like the process.
pub fn children_of_thread(pid: Pid, thread: Pid) -> Option<Vec<Pid>> {
    let mut text = String::with_capacity(PAGE);
    let file = File::open(format!("/proc/{pid}/task/{thread}/children"));
    // Through `take` nobody asks for a size that /proc does not know.
    seen(file.and_then(|file| file.take(u64::MAX).read_to_string(&mut text)))?;
    Some(text.split_ascii_whitespace().filter_map(|word| word.parse().ok().and_then(Pid::new)).collect())
}

fn has_lists_of_children() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| fs::exists("/proc/thread-self/children").unwrap_or(false))
}

/// Whether other threads than the leader are listed.
pub fn has_other_threads(pid: Pid) -> bool {
    entries(&format!("/proc/{pid}/task")).into_iter().any(|thread| thread != pid)
}

/// The command line, arguments joined by spaces. Empty for a zombie or a thread of the kernel.
pub fn command_line(pid: Pid) -> Option<String> {
    let mut bytes = Vec::new();
    seen(File::open(format!("/proc/{pid}/cmdline")))?.take(COMMAND_LIMIT).read_to_end(&mut bytes).ok()?;
    Some(parse::printable(&bytes))
}

/// The user it acts as.
pub fn owner(pid: Pid) -> Option<u32> {
    let status = seen(fs::read(format!("/proc/{pid}/status")))?;
    // real, effective, saved, file system
    parse::status_field(&status, "Uid")?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The process that traces this one.
pub fn tracer(pid: Pid) -> Option<Pid> {
    let thread = status_pid(pid, "TracerPid")?;
    // A thread traces; the process is what a person can look for.
    status_pid(thread, "Tgid").or(Some(thread))
}

fn status_pid(pid: Pid, field: &str) -> Option<Pid> {
    let status = seen(fs::read(format!("/proc/{pid}/status")))?;
    parse::status_field(&status, field)?.parse().ok().and_then(Pid::new)
}

/// The mark in its limits.
pub fn mark(pid: Pid) -> Option<Mark> {
    let limits = seen(fs::read(format!("/proc/{pid}/limits")))?;
    parse::file_locks_limit(&limits).and_then(Mark::from_limit)
}

/// A variable of the environment that it was started with.
pub fn environment(pid: Pid, variable: &str) -> Option<String> {
    let block = seen(fs::read(format!("/proc/{pid}/environ")))?;
    parse::variable(&block, variable)
}
