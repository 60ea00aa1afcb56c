//! Kills and reaps everything below the guardian in repeated passes, until nothing is left or the time limit
//! is reached.
//!
//! Our own children are signalled by pid, since only this process reaps them; all other processes by handles
//! that were compared with the snapshot (see `os::child::Handle`). So no reused pid is signalled. If the
//! workers have cgroups, these are killed as a whole before each pass, which also kills processes that fork
//! faster than they can be listed. The portable backend has no subreaper: there the whole machine is searched
//! for the mark of the run, and for processes that the daemon knew.

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

const PASS_INTERVAL: Duration = Duration::from_millis(1);

/// Each pass with this number kills the whole tree; the others only our own children, which is quicker.
const WHOLE_TREE_INTERVAL: u64 = 8;

/// The processes to kill.
pub struct KillAndReap<'a> {
    /// Never signalled.
    pub preexisting: &'a PreexistingChildren,
    pub run: RunTag,
    /// The names of the workers, as far as they are known.
    pub names: HashMap<Slot, WorkerName>,
    /// Processes that the daemon attributed, for the portable backend.
    pub known: Vec<KnownProcess>,
    /// Has exited, and is not counted.
    pub daemon: Pid,
    pub cgroups: Option<Layout>,
}

/// The result, for the crash record.
#[derive(Default)]
pub struct CleanupResult {
    pub ended_count: u64,
    /// The first ones of the killed processes.
    pub ended: Vec<LeftoverProcess>,
    /// Processes that still exist at the time limit.
    pub left: Vec<LeftoverProcess>,
    /// The kernel said that there is no child any more.
    pub proved: bool,
    /// All processes could be read, so that none is missing in `left`.
    pub is_complete: bool,
    /// Killed processes that are children of other processes, and so are not counted when they are reaped.
    not_reaped_here: HashSet<(Pid, StartTime)>,
}

impl KillAndReap<'_> {
    /// `pause` waits for this time, or until a child exits.
    pub fn kill_until_gone(&self, limit: Deadline, mut pause: impl FnMut(Duration)) -> CleanupResult {
        let mut result = CleanupResult::default();
        for pass in 0u64.. {
            self.kill_cgroups(&mut result);
            let killed_children = self.kill_children(&mut result);
            if pass.is_multiple_of(WHOLE_TREE_INTERVAL) {
                self.kill_all(&killed_children, &mut result);
            }
            let proof = self.reap_all(&killed_children, &mut result);
            let children = self.children();
            if children.is_proof_of_absence() && self.not_in_the_tree().is_proof_of_absence() {
                self.remove_cgroups();
                result.is_complete = true;
                result.proved = proof == Proof::NoChildren && backend() == Backend::Linux;
                break;
            }
            if limit.remaining().is_zero() {
                self.record_left(children, &mut result);
                break;
            }
            pause(PASS_INTERVAL);
        }
        result
    }

    fn record_left(&self, children: Listing<Pid>, result: &mut CleanupResult) {
        let all = self.all(children.found());
        result.is_complete = children.is_complete() && all.is_complete();
        let left = all.best_effort();
        let is_counted = |process: &&Process| result.not_reaped_here.contains(&(process.pid, process.start));
        result.ended_count -= left.iter().filter(is_counted).count() as u64;
        result.left = left.iter().map(|process| self.leftover(process)).collect();
    }

    fn kill_cgroups(&self, result: &mut CleanupResult) {
        for process in self.in_cgroups().found().iter().take(NAMED) {
            self.record_ended(process.pid, result);
        }
        if let Some(cgroups) = &self.cgroups {
            // If it fails, the pass kills the processes one by one.
            let _ = cgroups.run().kill();
        }
    }

    /// Cgroups that can't be removed now are removed by the next start.
    fn remove_cgroups(&self) {
        if let Some(cgroups) = &self.cgroups {
            let _ = cgroups.take_down();
        }
    }

    /// Kills our own children first: a process that keeps forking must not gain time while the tree is read.
    fn kill_children(&self, result: &mut CleanupResult) -> Vec<Pid> {
        // A child that can't be read now is killed by a later pass.
        let children = self.children().best_effort();
        for pid in &children {
            self.record_ended(*pid, result);
            // Only this process reaps it, so the pid is not reused.
            let _ = child::signal_child(*pid, Signal::Kill);
        }
        children
    }

    /// Kills the whole tree, so that most processes need not wait until they are reparented to the guardian.
    fn kill_all(&self, children: &[Pid], result: &mut CleanupResult) {
        for process in self.all(children).best_effort() {
            let Ok(Some(handle)) = Handle::open(&process) else { continue };
            self.record_ended(process.pid, result);
            let _ = handle.signal(Signal::Kill);
            // Without a subreaper only our own children are reaped, and counted, here.
            let is_of_others = backend() == Backend::Portable && !children.contains(&process.pid);
            if is_of_others && result.not_reaped_here.insert((process.pid, process.start)) {
                result.ended_count += 1;
            }
        }
    }

    /// Reaps every child that has exited, also preexisting ones, which are not counted.
    fn reap_all(&self, children: &[Pid], result: &mut CleanupResult) -> Proof {
        let answer = child::prove_no_children();
        let is_counted =
            |pid: Pid| pid != self.daemon && (self.preexisting.is_empty() || children.contains(&pid));
        result.ended_count += answer.reaped.iter().filter(|(pid, _)| is_counted(*pid)).count() as u64;
        answer.proof
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
            Some(child) => Ok(!self.preexisting.includes(&child, self.run)?),
            None => Ok(false),
        }
    }

    /// All processes of the run, parents first.
    fn all(&self, children: &[Pid]) -> Listing<Process> {
        let mut all = Listing::default();
        for child in children {
            let process = all.record(process::read(*child));
            all.extend(process);
            all.append(process::tree(*child));
        }
        let listed: HashSet<_> = all.found().iter().map(|process| process.pid).collect();
        let mut others = self.not_in_the_tree();
        others.retain(|process| !listed.contains(&process.pid));
        all.append(others);
        all
    }

    /// Processes of the run that may not be below the guardian.
    fn not_in_the_tree(&self) -> Listing<Process> {
        let mut all = self.detached();
        all.append(self.in_cgroups());
        all
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

    /// Detached processes, where the guardian is no subreaper.
    fn detached(&self) -> Listing<Process> {
        let mut detached = Listing::default();
        if backend() == Backend::Linux {
            return detached;
        }
        let mut all = detached.take(process::all());
        all.retain(|process| !process::is_zombie(process));
        let mut owners = HashMap::new();
        for process in &all {
            let is_known = known_processes::slot_of(&self.known, process).is_some();
            let is_ours = is_known
                || detached.record(process::mark(process.pid)).is_some_and(|mark| mark.run == self.run);
            if is_ours {
                owners.insert(process.pid, None);
            }
        }
        attribution::add_related(&all, &mut owners, |_, _| {});
        detached.extend(all.into_iter().filter(|process| owners.contains_key(&process.pid)));
        detached
    }

    /// Describes the first killed processes, before they are killed: a zombie has no command line.
    fn record_ended(&self, pid: Pid, result: &mut CleanupResult) {
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
