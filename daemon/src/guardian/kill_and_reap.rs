//! AfterShutdown and reaping all that is left below the guardian, in pass after pass, until there is nothing
//! or the time is over.
//!
//! Our own children can be signalled by their pids, since nobody else reaps them; all others by handles
//! that were compared with the census (see `os::child::Handle`): no pid is hit that could have been
//! given away. Where the workers have cgroups, these are killed as a whole before each pass, so that not
//! even what forks faster than it is looked at gains time. The portable backend has no subreaper: there
//! the run's mark, and whom the daemon knew, is looked for on the whole machine as well.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use mcpd_common::crash::{LeftoverProcess, NAMED};
use mcpd_common::ids::{Pid, RunTag, Slot, WorkerName};
use mcpd_common::known_processes::{self, KnownProcess};
use mcpd_common::os::child::{self, Handle, Proof, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{Backend, CannotLook, Listing, backend};

use super::preexisting::PreexistingChildren;
use crate::deadline::Deadline;
use crate::process::containment::attribution;
use crate::process::containment::cgroups::Layout;

/// Between two passes.
const AGAIN: Duration = Duration::from_millis(1);

/// Every so many passes go over the whole tree; the others over our own children only, which is quicker.
const WHOLE_TREE: u64 = 8;

/// Whom to look for.
pub struct KillAndReap<'a> {
    /// Whom to leave alone.
    pub preexisting: &'a PreexistingChildren,
    /// Whose mark counts.
    pub run: RunTag,
    /// Whose slot is whose, as far as it is known.
    pub names: HashMap<Slot, WorkerName>,
    /// Whom the daemon knew, where orphans do not come to us.
    pub known: Vec<KnownProcess>,
    /// Gone already, and not to be counted.
    pub daemon: Pid,
    /// Its cgroups.
    pub cgroups: Option<Layout>,
}

/// What became of it.
#[derive(Default)]
pub struct CleanupResult {
    /// How many were ended.
    pub ended_count: u64,
    /// The first of them.
    pub ended: Vec<LeftoverProcess>,
    /// What could not be ended.
    pub left: Vec<LeftoverProcess>,
    /// The kernel said that there is no child any more.
    pub proved: bool,
    /// All processes could be read, so that nothing is missing in `left`.
    pub is_complete: bool,
    /// Those that were ended as children of somebody else.
    of_others: HashSet<(Pid, StartTime)>,
}

impl KillAndReap<'_> {
    /// Ends all of it. `pause` waits so long, or until a child ends.
    pub fn end_all(&self, limit: Deadline, mut pause: impl FnMut(Duration)) -> CleanupResult {
        let mut result = CleanupResult::default();
        for pass in 0u64.. {
            self.kill_cgroups(&mut result);
            let children = self.kill_children(&mut result);
            if pass.is_multiple_of(WHOLE_TREE) {
                self.kill_others(&children, &mut result);
            }
            let proof = self.reap_all(&children, &mut result);
            let there = self.children();
            let others = self.elsewhere();
            if there.is_proof_of_absence() && others.is_proof_of_absence() {
                self.remove_cgroups();
                result.is_complete = true;
                result.proved = proof == Proof::NoChildren && backend() == Backend::Linux;
                break;
            }
            if limit.remaining().is_zero() {
                let all = self.all(there.found());
                result.is_complete = there.is_complete() && all.is_complete();
                let left = all.best_effort();
                let counted = left.iter().filter(|it| result.of_others.contains(&(it.pid, it.start))).count();
                result.ended_count -= counted as u64;
                result.left = left.iter().map(|process| self.leftover(process)).collect();
                break;
            }
            pause(AGAIN);
        }
        result
    }

    /// All of them at once, whoever they are.
    fn kill_cgroups(&self, result: &mut CleanupResult) {
        for process in self.in_cgroups().found().iter().take(NAMED) {
            self.name(process.pid, result);
        }
        if let Some(cgroups) = &self.cgroups {
            // What it does not end, the pass does.
            let _ = cgroups.run().kill();
        }
    }

    fn in_cgroups(&self) -> Listing<Process> {
        let mut members = Listing::default();
        let Some(cgroups) = &self.cgroups else { return members };
        for pid in members.take(cgroups.run().members()) {
            let process = members.record(process::read(pid));
            members.extend(process);
        }
        members
    }

    /// What can't be removed the next start removes.
    fn remove_cgroups(&self) {
        if let Some(cgroups) = &self.cgroups {
            let _ = cgroups.take_down();
        }
    }

    /// Our own children, at once: what forks without end must not gain time while others are looked at.
    fn kill_children(&self, result: &mut CleanupResult) -> Vec<Pid> {
        // What can't be read now is killed by a later pass.
        let children = self.children().best_effort();
        for pid in &children {
            self.name(*pid, result);
            // Reaped by nobody but us, so the pid is still its own.
            let _ = child::signal_child(*pid, Signal::Kill);
        }
        children
    }

    /// What is below them would be our own child when they have died; most of it has not to wait so
    /// long.
    fn kill_others(&self, children: &[Pid], result: &mut CleanupResult) {
        for process in self.all(children).best_effort() {
            let Ok(Some(handle)) = Handle::open(&process) else { continue };
            self.name(process.pid, result);
            let _ = handle.signal(Signal::Kill);
            // Who does not come to us is not counted when it is reaped.
            let is_of_others = backend() == Backend::Portable && !children.contains(&process.pid);
            if is_of_others && result.of_others.insert((process.pid, process.start)) {
                result.ended_count += 1;
            }
        }
    }

    /// Reaps whatever has ended, also of those that are preexisting; they are nothing that was ended here.
    fn reap_all(&self, children: &[Pid], result: &mut CleanupResult) -> Proof {
        let kill_and_reap = child::prove_no_children();
        let ours = |pid: Pid| pid != self.daemon && (self.preexisting.is_empty() || children.contains(&pid));
        let ended = kill_and_reap.reaped.iter().filter(|(pid, _)| ours(*pid));
        result.ended_count += ended.count() as u64;
        kill_and_reap.proof
    }

    /// Our own children that are not preexisting, zombies included.
    fn children(&self) -> Listing<Pid> {
        let mut children = Listing::default();
        for pid in children.take(process::children(Pid::current())) {
            let is_ours =
                self.preexisting.is_empty() || pid == self.daemon || children.record(self.is_ours(pid));
            children.extend(is_ours.then_some(pid));
        }
        children
    }

    fn is_ours(&self, child: Pid) -> Result<bool, CannotLook> {
        match process::read(child)? {
            Some(child) => Ok(!self.preexisting.covers(&child, self.run)?),
            None => Ok(false),
        }
    }

    /// Everything that is there, parents first.
    fn all(&self, children: &[Pid]) -> Listing<Process> {
        let mut all = Listing::default();
        for child in children {
            let process = all.record(process::read(*child));
            all.extend(process);
            all.append(process::tree(*child));
        }
        let listed: HashSet<_> = all.found().iter().map(|process| process.pid).collect();
        let mut others = self.elsewhere();
        others.retain(|process| !listed.contains(&process.pid));
        all.append(others);
        all
    }

    /// Who is the run's although it may not be below us.
    fn elsewhere(&self) -> Listing<Process> {
        let mut all = self.marked();
        all.append(self.in_cgroups());
        all
    }

    /// Where orphans do not come to us.
    fn marked(&self) -> Listing<Process> {
        let mut marked = Listing::default();
        if backend() == Backend::Linux {
            return marked;
        }
        let mut all = marked.take(process::all());
        all.retain(|found| !process::is_zombie(found));
        let mut owners = HashMap::new();
        for found in &all {
            let is_known = known_processes::slot_of(&self.known, found).is_some();
            if is_known || marked.record(process::mark(found.pid)).is_some_and(|mark| mark.run == self.run) {
                owners.insert(found.pid, None);
            }
        }
        // And who is theirs: below them, or in a session that they were born into.
        attribution::add_related(&all, &mut owners, |_, _| {});
        marked.extend(all.into_iter().filter(|found| owners.contains_key(&found.pid)));
        marked
    }

    /// The first ones get names, before they are killed: afterwards they have no command line any more.
    fn name(&self, pid: Pid, result: &mut CleanupResult) {
        if pid == self.daemon
            || result.ended.len() >= NAMED
            || result.ended.iter().any(|known| known.pid == pid)
        {
            return;
        }
        result.ended.extend(process::best_effort::read(pid).map(|process| self.leftover(&process)));
    }

    fn leftover(&self, process: &Process) -> LeftoverProcess {
        let mark = process::best_effort::mark(process.pid).filter(|mark| mark.run == self.run);
        let slot = mark.map(|mark| mark.slot).or_else(|| known_processes::slot_of(&self.known, process));
        let worker = slot.and_then(|slot| self.names.get(&slot).cloned());
        LeftoverProcess { pid: process.pid, command: process::command(process), worker }
    }
}
