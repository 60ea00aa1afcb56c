//! AfterShutdown what a run left whose guardian died, too.
//!
//! Only what is proven to be of that run is touched: the run file names the run, the boot id says
//! that its processes can still be alive, and a living process carries the run's mark, which nobody
//! else can have, or is by pid and start time one that the run's daemon knew. The signal goes by a
//! handle that was compared with the process's start time. A process that merely got a recorded pid,
//! or holds a recorded port, is never touched; a port that a proven leftover holds is free when that
//! has ended.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use mcpd_common::crash::{CrashRecord, DaemonEnd, LeftoverProcess, NAMED, Witness};
use mcpd_common::ids::{Pid, RunId, Slot, WorkerName};
use mcpd_common::known_processes::{self, KnownProcess};
use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{self, CannotLook, Listing, backend};
use mcpd_common::run_file::RunFile;

use crate::deadline::Deadline;

/// What does not end within this is reported and left.
const LIMIT: Duration = Duration::from_secs(5);
/// Whoever keeps forking can be missed by a pass: passes must find nobody for so long.
const QUIET: Duration = Duration::from_millis(300);

/// Ends what the run file proves to be left. To be called by the holder of the lock: the daemon of
/// that run is dead.
///
/// Also returns why processes may be left that are not in the record.
pub async fn reclaim(last: &RunFile, known: &[KnownProcess]) -> (CrashRecord, Option<String>) {
    let now = Timestamp::now();
    let mut record = CrashRecord {
        run: last.run,
        version: last.version.clone(),
        witness: Witness::NextStart,
        daemon: last.daemon.pid,
        end: DaemonEnd::Unseen,
        noticed_at: now,
        finished_at: now,
        backend: backend(),
        proved: false,
        ended_count: 0,
        ended: vec![],
        left: vec![],
        spared: vec![],
        damaged_lines: 0,
    };
    // After another boot nothing of it is alive, and its pids and marks say nothing.
    let boot_id = os::boot_id().unwrap_or_default();
    if boot_id.is_empty() && !last.boot_id.is_empty() {
        return (record, Some("the boot id of this machine can't be read".to_owned()));
    }
    let mut doubt = None;
    if boot_id == last.boot_id {
        doubt = end_all(last, known, &mut record).await.err().map(|error| error.to_string());
        record.finished_at = Timestamp::now();
    }
    (record, doubt)
}

async fn end_all(last: &RunFile, known: &[KnownProcess], record: &mut CrashRecord) -> Result<(), CannotLook> {
    let proof = Proof { run: last.run, known, spared: ourselves()? };
    let mut result = Ok(());
    let names: HashMap<Slot, WorkerName> =
        last.workers.iter().map(|worker| (worker.slot, worker.name.clone())).collect();
    let slot_of = |process: &Process| {
        let mark = process::best_effort::mark(process.pid).map(|mark| mark.slot);
        mark.or_else(|| known_processes::slot_of(known, process))
    };
    let leftover = |process: &Process| LeftoverProcess {
        pid: process.pid,
        command: process::command(process),
        worker: slot_of(process).and_then(|slot| names.get(&slot).cloned()),
    };
    let deadline = Deadline::after(LIMIT);
    let mut seen: HashSet<(Pid, StartTime)> = HashSet::new();
    let mut quiet = Deadline::after(QUIET);
    while !quiet.remaining().is_zero() {
        let mut alive = Listing::default();
        let mut pids = alive.record(process::pids());
        // The newest first: they are who moves on.
        pids.sort_unstable_by(|a, b| b.cmp(a));
        for pid in pids {
            let Some(process) = alive.record(proof.of(pid)) else { continue };
            // Killed when it is found: at the end of the pass it may be gone, and its child there.
            let Some(handle) = alive.record(Handle::open(&process)) else { continue };
            // Asked before it is killed: afterwards it has no command line any more.
            if seen.insert((process.pid, process.start)) && record.ended.len() < NAMED {
                record.ended.push(leftover(&process));
            }
            let _ = handle.signal(Signal::Kill);
            alive.extend([process]);
        }
        if !alive.is_proof_of_absence() {
            if deadline.remaining().is_zero() {
                record.left = alive.found().iter().map(leftover).collect();
                result = alive.complete().map(drop);
                break;
            }
            quiet = Deadline::after(QUIET);
        }
        tokio::task::yield_now().await;
    }
    record.ended.retain(|ended| record.left.iter().all(|left| left.pid != ended.pid));
    record.ended_count = seen.len().saturating_sub(record.left.len()) as u64;
    result
}

/// What makes a process one of the dead run's.
struct Proof<'a> {
    run: RunId,
    /// Whom its daemon knew, where marks can be lost.
    known: &'a [KnownProcess],
    spared: HashSet<Pid>,
}

impl Proof<'_> {
    /// One whose leader has exited while other threads run still holds its ports.
    fn of(&self, pid: Pid) -> Result<Option<Process>, CannotLook> {
        let has_known_pid = self.known.iter().any(|known| known.process.pid == pid);
        if self.spared.contains(&pid) || !(has_known_pid || self.is_marked(pid)?) {
            return Ok(None);
        }
        let Some(process) = process::read(pid)? else { return Ok(None) };
        // Checked again: another process that got the pid since must carry the mark itself.
        let is_proven = self.is_marked(pid)? || self.is_known(&process);
        Ok((!process::is_zombie(&process) && is_proven).then_some(process))
    }

    fn is_marked(&self, pid: Pid) -> Result<bool, CannotLook> {
        Ok(process::mark(pid)?.is_some_and(|mark| mark.run == self.run.tag()))
    }

    fn is_known(&self, process: &Process) -> bool {
        known_processes::slot_of(self.known, process).is_some()
    }
}

/// This process and those above it: a daemon started from inside the last run's worker spares
/// whoever started it.
fn ourselves() -> Result<HashSet<Pid>, CannotLook> {
    let mut spared = HashSet::new();
    let mut next = Some(Pid::current());
    while let Some(pid) = next
        && spared.len() < 64
    {
        spared.insert(pid);
        next = process::read(pid)?.and_then(|process| Pid::new(process.ppid));
    }
    Ok(spared)
}
