//! Ending and reaping all that is left below the guardian: the whole tree in one pass, again and
//! again, until there is nothing or the time is over.
//!
//! Signals go by handles that were compared with the census (see `os::child::Handle`), so no pid is
//! hit that could have been given away. The portable backend has no subreaper: there the run's mark
//! is looked for on the whole machine as well.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mcpd_common::crash::{NAMED, Remnant};
use mcpd_common::ids::{Pid, RunTag, Slot, WorkerName};
use mcpd_common::os::child::{self, Handle, Proof, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{Backend, backend};

use super::spared::{Spared, children};
use crate::deadline::Deadline;

/// Between two passes.
const AGAIN: Duration = Duration::from_millis(1);

/// Whom to look for.
pub struct Sweep<'a> {
    /// Whom to leave alone.
    pub spared: &'a Spared,
    /// Whose mark counts.
    pub run: RunTag,
    /// Whose slot is whose, as far as it is known.
    pub names: HashMap<Slot, WorkerName>,
    /// Gone already, and not to be counted.
    pub daemon: Pid,
}

/// What became of it.
#[derive(Default)]
pub struct Swept {
    /// How many were ended, and the first of them.
    pub ended_count: u64,
    /// See there.
    pub ended: Vec<Remnant>,
    /// What could not be ended.
    pub left: Vec<Remnant>,
    /// The kernel said that there is no child any more.
    pub proved: bool,
    seen: HashSet<(Pid, StartTime)>,
}

impl Sweep<'_> {
    /// Ends all of it. `pause` waits so long, or until a child ends.
    pub fn end_all(&self, limit: Deadline, mut pause: impl FnMut(Duration)) -> Swept {
        let mut swept = Swept::default();
        loop {
            let there = self.all();
            for process in &there {
                self.end(process, &mut swept);
            }
            if there.is_empty() {
                swept.proved = self.prove(&mut swept);
                return swept;
            }
            if limit.remaining().is_zero() {
                swept.left = there.iter().map(|process| self.remnant(process)).collect();
                return swept;
            }
            pause(AGAIN);
        }
    }

    /// Everything that is there, parents first, zombies included.
    fn all(&self) -> Vec<Process> {
        let mut all = Vec::new();
        let ours = |child: &Process| child.pid == self.daemon || !self.spared.covers(child, self.run);
        for child in children().into_iter().filter(ours) {
            let below = process::tree(child.pid);
            all.push(child);
            all.extend(below);
        }
        if backend() == Backend::Portable {
            all.extend(self.marked());
        }
        all
    }

    fn marked(&self) -> Vec<Process> {
        let is_ours = |found: &Process| {
            !process::is_zombie(found) && process::mark(found.pid).is_some_and(|mark| mark.run == self.run)
        };
        process::all().into_iter().filter(is_ours).collect()
    }

    fn end(&self, process: &Process, swept: &mut Swept) {
        if process.pid != self.daemon && swept.seen.insert((process.pid, process.start)) {
            swept.ended_count += 1;
            if swept.ended.len() < NAMED {
                // Asked before it is killed: afterwards it has no command line any more.
                swept.ended.push(self.remnant(process));
            }
        }
        if process::is_zombie(process) {
            // Not ours to reap while its parent lives; then it is in the next census.
            let _ = child::reap(process.pid);
        } else if let Some(handle) = Handle::open(process) {
            let _ = handle.signal(Signal::Kill);
        }
    }

    fn remnant(&self, process: &Process) -> Remnant {
        let slot = process::mark(process.pid).filter(|mark| mark.run == self.run).map(|mark| mark.slot);
        let worker = slot.and_then(|slot| self.names.get(&slot).cloned());
        Remnant { pid: process.pid, command: process::command(process), worker }
    }

    /// Where others are spared the kernel can't say it.
    fn prove(&self, swept: &mut Swept) -> bool {
        if backend() == Backend::Portable || !children().is_empty() {
            return false;
        }
        let proof = child::prove_no_children();
        swept.ended_count += proof.reaped.iter().filter(|(pid, _)| *pid != self.daemon).count() as u64;
        proof.proof == Proof::NoChildren
    }
}
