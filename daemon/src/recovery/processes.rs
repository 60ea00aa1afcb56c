//! Kills the processes of a run whose daemon and guardian both died.
//!
//! Only processes that are proved to be of that run are signalled: the run file names the run, the boot id
//! shows that its processes can still exist, and the process carries the mark of the run, which no other
//! process can have, or is one that the daemon of the run attributed (by pid and start time). The signal is
//! sent through a handle that was compared with the start time. A process that merely reused a recorded pid,
//! or holds a recorded port, is never signalled.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::crash::{CleanedUpBy, CrashRecord, DaemonEnd, LeftoverProcess, NAMED};
use mcpd_common::ids::{Pid, RunId, Slot, WorkerName};
use mcpd_common::known_processes::{self, KnownProcess};
use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{self, CannotLook, Listing, backend};
use mcpd_common::run_file::RunFile;

use crate::deadline::Deadline;

/// Processes that still exist after this time are reported.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// A scan can miss a process that keeps forking, so scans must find nothing for this long.
const QUIET_TIME: Duration = Duration::from_millis(300);
/// The limit of ancestors of this process that are read.
const MAX_ANCESTORS: usize = 64;

/// Kills the processes that the run file proves to be left. Also returns why processes may be left that are
/// not in the record. To be called by the holder of the lock: the daemon of that run is dead.
pub async fn kill_leftovers(last: &RunFile, known: &[KnownProcess]) -> (CrashRecord, Option<String>) {
    let now = Timestamp::now();
    let mut record = CrashRecord {
        run: last.run,
        version: last.version.clone(),
        cleaned_up_by: CleanedUpBy::NextStart,
        daemon: last.daemon.pid,
        end: DaemonEnd::Unknown,
        detected_at: now,
        finished_at: now,
        backend: backend(),
        proved: false,
        ended_count: 0,
        ended: vec![],
        left: vec![],
        preexisting: vec![],
        damaged_lines: 0,
    };
    let boot_id = os::boot_id().unwrap_or_default();
    if boot_id.is_empty() && !last.boot_id.is_empty() {
        return (record, Some("the boot id of this machine can't be read".to_owned()));
    }
    if boot_id != last.boot_id {
        // After another boot no process of the run exists, and its pids and marks mean nothing.
        return (record, None);
    }
    let killed = kill_until_quiet(last, known, &mut record).await;
    record.finished_at = Timestamp::now();
    (record, killed.err().map(|error| error.to_string()))
}

/// # Errors
/// When processes could not be read, so that some may be left.
async fn kill_until_quiet(
    last: &RunFile,
    known: &[KnownProcess],
    record: &mut CrashRecord,
) -> Result<(), CannotLook> {
    let run = DeadRun::new(last, known)?;
    let deadline = Deadline::after(KILL_TIMEOUT);
    let mut killed: HashSet<(Pid, StartTime)> = HashSet::new();
    let mut quiet = Deadline::after(QUIET_TIME);
    let mut result = Ok(());
    while !quiet.remaining().is_zero() {
        let alive = run.kill_pass(&mut killed, &mut record.ended);
        if !alive.is_proof_of_absence() {
            if deadline.remaining().is_zero() {
                record.left = alive.found().iter().map(|process| run.leftover(process)).collect();
                result = alive.complete().map(drop);
                break;
            }
            quiet = Deadline::after(QUIET_TIME);
        }
        tokio::task::yield_now().await;
    }
    record.ended.retain(|ended| record.left.iter().all(|left| left.pid != ended.pid));
    record.ended_count = killed.len().saturating_sub(record.left.len()) as u64;
    result
}

/// The proof that a process belongs to the dead run.
struct DeadRun<'a> {
    run: RunId,
    names: HashMap<Slot, WorkerName>,
    /// Processes that its daemon attributed, for systems on which marks can be lost.
    known: &'a [KnownProcess],
    /// Never signalled: a daemon that was started by a worker of the dead run has ancestors with its mark.
    ancestors: HashSet<Pid>,
}

impl<'a> DeadRun<'a> {
    fn new(last: &RunFile, known: &'a [KnownProcess]) -> Result<Self, CannotLook> {
        let names = last.workers.iter().map(|worker| (worker.slot, worker.name.clone())).collect();
        Ok(Self { run: last.run, names, known, ancestors: ancestors()? })
    }

    /// Kills all processes of the run, and returns them. The first ones are described in `ended`.
    fn kill_pass(
        &self,
        killed: &mut HashSet<(Pid, StartTime)>,
        ended: &mut Vec<LeftoverProcess>,
    ) -> Listing<Process> {
        let mut alive = Listing::default();
        let mut pids = alive.record(process::pids());
        // The newest first: a process that keeps forking is among them.
        pids.sort_unstable_by_key(|pid| std::cmp::Reverse(*pid));
        for pid in pids {
            // Killed at once: at the end of the pass it may have exited and left a child.
            let Some(process) = alive.record(self.find(pid)) else { continue };
            let Some(handle) = alive.record(Handle::open(&process)) else { continue };
            // Described before it is killed: a zombie has no command line.
            if killed.insert((process.pid, process.start)) && ended.len() < NAMED {
                ended.push(self.leftover(&process));
            }
            let _ = handle.signal(Signal::Kill);
            alive.extend([process]);
        }
        alive
    }

    /// The process with this pid, if it belongs to the run. A leader that has exited while other threads of
    /// it run is no zombie, because it still holds its ports.
    fn find(&self, pid: Pid) -> Result<Option<Process>, CannotLook> {
        let has_known_pid = self.known.iter().any(|known| known.process.pid == pid);
        if self.ancestors.contains(&pid) || !(has_known_pid || self.is_marked(pid)?) {
            return Ok(None);
        }
        let Some(process) = process::read(pid)? else { return Ok(None) };
        // Checked again: another process that got the pid since must carry the mark itself.
        let is_proved = self.is_marked(pid)? || known_processes::slot_of(self.known, &process).is_some();
        Ok((is_proved && !process::is_zombie(&process)).then_some(process))
    }

    fn is_marked(&self, pid: Pid) -> Result<bool, CannotLook> {
        Ok(process::mark(pid)?.is_some_and(|mark| mark.run == self.run.tag()))
    }

    fn leftover(&self, process: &Process) -> LeftoverProcess {
        let mark = process::best_effort::mark(process.pid).map(|mark| mark.slot);
        let slot = mark.or_else(|| known_processes::slot_of(self.known, process));
        LeftoverProcess {
            pid: process.pid,
            command: process::command(process),
            worker: slot.and_then(|slot| self.names.get(&slot).cloned()),
        }
    }
}

/// This process and its ancestors.
fn ancestors() -> Result<HashSet<Pid>, CannotLook> {
    let mut ancestors = HashSet::new();
    let mut next = Some(Pid::current());
    while let Some(pid) = next
        && ancestors.len() < MAX_ANCESTORS
    {
        ancestors.insert(pid);
        next = process::read(pid)?.and_then(|process| Pid::new(process.ppid));
    }
    Ok(ancestors)
}
