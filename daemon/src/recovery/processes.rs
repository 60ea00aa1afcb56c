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
use mcpd_common::crash::{CleanedUpBy, CrashRecord, DaemonEnd, LeftoverProcess, NAMED};
use mcpd_common::ids::{Pid, RunId, Slot, WorkerName};
use mcpd_common::known_processes::{self, KnownProcess};
use mcpd_common::os::child::{Handle, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{self, backend};
use mcpd_common::run_file::RunFile;

use crate::deadline::Deadline;

/// What does not end within this is reported and left.
const LIMIT: Duration = Duration::from_secs(5);
/// Whoever keeps forking can be missed by a pass: passes must find nobody for so long.
const QUIET: Duration = Duration::from_millis(300);

/// Ends what the run file proves to be left. To be called by the holder of the lock: the daemon of
/// that run is dead.
pub async fn reclaim(last: &RunFile, known: &[KnownProcess]) -> CrashRecord {
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
    // After another boot nothing of it is alive, and its pids and marks say nothing.
    if os::boot_id().unwrap_or_default() == last.boot_id {
        end_all(last, known, &mut record).await;
        record.finished_at = Timestamp::now();
    }
    record
}

async fn end_all(last: &RunFile, known: &[KnownProcess], record: &mut CrashRecord) {
    let proof = Proof { run: last.run, known, spared: ourselves() };
    let names: HashMap<Slot, WorkerName> =
        last.workers.iter().map(|worker| (worker.slot, worker.name.clone())).collect();
    let slot_of = |process: &Process| {
        let mark = process::mark(process.pid).map(|mark| mark.slot);
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
        let (mut alive, mut pids) = (vec![], process::pids());
        // The newest first: they are who moves on.
        pids.sort_unstable_by(|a, b| b.cmp(a));
        for process in pids.into_iter().filter_map(|pid| proof.of(pid)) {
            // Killed when it is found: at the end of the pass it may be gone, and its child there.
            let Some(handle) = Handle::open(&process) else { continue };
            // Asked before it is killed: afterwards it has no command line any more.
            if seen.insert((process.pid, process.start)) && record.ended.len() < NAMED {
                record.ended.push(leftover(&process));
            }
            let _ = handle.signal(Signal::Kill);
            alive.push(process);
        }
        if !alive.is_empty() && deadline.remaining().is_zero() {
            record.left = alive.iter().map(leftover).collect();
            break;
        }
        if !alive.is_empty() {
            quiet = Deadline::after(QUIET);
        }
        tokio::task::yield_now().await;
    }
    record.ended.retain(|ended| record.left.iter().all(|left| left.pid != ended.pid));
    record.ended_count = seen.len().saturating_sub(record.left.len()) as u64;
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
    fn of(&self, pid: Pid) -> Option<Process> {
        let may_be = || self.is_marked(pid) || self.known.iter().any(|known| known.process.pid == pid);
        let process =
            Some(pid).filter(|pid| !self.spared.contains(pid) && may_be()).and_then(process::read)?;
        // Asked again of what was read: a stranger who got the pid meanwhile must have the mark himself.
        let is_proven = self.is_marked(pid) || self.is_known(&process);
        (!process::is_zombie(&process) && is_proven).then_some(process)
    }

    fn is_marked(&self, pid: Pid) -> bool {
        process::mark(pid).is_some_and(|mark| mark.run == self.run.tag())
    }

    fn is_known(&self, process: &Process) -> bool {
        known_processes::slot_of(self.known, process).is_some()
    }
}

/// This process and those above it: a daemon started from inside the last run's worker spares
/// whoever started it.
fn ourselves() -> HashSet<Pid> {
    let above = |pid: &Pid| Pid::new(process::read(*pid)?.ppid);
    std::iter::successors(Some(Pid::current()), above).take(64).collect()
}
