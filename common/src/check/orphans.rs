//! Processes with the mark of a run whose daemon and guardian are gone, found without any record of that run.
//!
//! While a run lives, its daemon or its guardian is an ancestor of its processes. If no process with the mark of a
//! run has such an ancestor, nothing supervises that run any more.

use std::collections::{HashMap, HashSet};

use crate::ids::{Mark, Pid, RunTag};
use crate::os::process::{self, Process};
use crate::os::{CannotLook, this_process};

/// The short name of a guardian's process.
const GUARDIAN_NAME: &str = "mcp-guardian";

/// How the short name of a daemon's process begins, if the program was not renamed.
const DAEMON_NAME: &str = "mcpd";

const ROOT: u32 = 0;

/// The limit of ancestors of a process that are read.
const MAX_ANCESTORS: usize = 64;

/// A process of a run that nothing supervises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The process when it was read.
    pub process: Process,
    /// The run and the worker that it belongs to.
    pub mark: Mark,
}

impl Orphan {
    /// Whether both are the same process, even if a pid was reused.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.process.pid, self.process.start) == (other.process.pid, other.process.start)
    }

    /// "sleep 600 (pid 4711, kim)".
    pub fn describe(&self) -> String {
        let info = process::describe(self.process.pid);
        info.map_or_else(
            || format!("{} (pid {})", self.process.name, self.process.pid),
            |info| info.to_string(),
        )
    }
}

/// Finds the living orphans of this user; for root, of all users. A process that was reparented during the scan may
/// be among them, so callers repeat the scan and keep what it finds each time.
///
/// # Errors
/// When not all processes could be read.
pub fn find() -> Result<Vec<Orphan>, CannotLook> {
    let user = this_process::user();
    let mut found: HashMap<RunTag, Vec<Orphan>> = HashMap::new();
    let mut supervised = HashSet::new();
    for pid in process::pids()? {
        let Some(mark) = process::mark(pid)? else { continue };
        let is_ours = || user == ROOT || process::user(pid) == Some(user);
        if pid == Pid::current() || supervised.contains(&mark.run) || !is_ours() {
            continue;
        }
        let Some(process) = process::read(pid)?.filter(|process| !process::is_zombie(process)) else {
            continue;
        };
        if is_supervised(&process, mark.run)? {
            supervised.insert(mark.run);
        } else {
            found.entry(mark.run).or_default().push(Orphan { process, mark });
        }
    }
    found.retain(|run, _| !supervised.contains(run));
    let mut orphans: Vec<_> = found.into_values().flatten().collect();
    orphans.sort_by_key(|orphan| orphan.process.pid);
    Ok(orphans)
}

/// Whether an ancestor is the daemon or the guardian of the run. Neither has its mark; the built-in worker, which is
/// the same program as the daemon, has it.
fn is_supervised(process: &Process, run: RunTag) -> Result<bool, CannotLook> {
    let mut next = Pid::new(process.ppid);
    for _ in 0..MAX_ANCESTORS {
        let Some(pid) = next else { return Ok(false) };
        let Some(ancestor) = process::read(pid)? else { return Ok(false) };
        let is_mcpd = ancestor.name == GUARDIAN_NAME || ancestor.name.starts_with(DAEMON_NAME);
        if is_mcpd && process::mark(pid)?.is_none_or(|mark| mark.run != run) {
            return Ok(true);
        }
        next = Pid::new(ancestor.ppid);
    }
    Ok(false)
}
