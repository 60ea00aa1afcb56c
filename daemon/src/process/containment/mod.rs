//! Which process belongs to whom, and ending all of them: the real [`ProcessOperations`].
//!
//! The daemon is a child subreaper, so whatever a worker leaves behind becomes the
//! daemon's own child. A **family** is a leader and everything that descends from it:
//!
//! ```text
//!   mcpd ---- leader (unreaped until the family is gone: its group id stays ours)
//!        |       `-- child -- grandchild            through the tree
//!        `-- orphan -- its children                 through its mark, group or session
//! ```
//!
//! Groups are signalled by the id stored at birth; every other process by a pidfd whose
//! start time was compared with the census, so a reused pid is never hit. Where a cgroup was
//! delegated to us, each family has one of its own (`cgroups.rs`): it says whose an orphan is, is
//! killed as a whole, and must be empty before a family counts as gone.
//!
//! `census.rs` says who is there and whose; this file acts on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};

use mcpd_common::ids::{Mark, Pgid, Pid, RunTag, Slot};
use mcpd_common::known_processes::KnownProcessesFile;
use mcpd_common::os::child::{self, Delivery, Handle, Proof, Signal, SpawnPlan};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::this_process::OpenFileLimit;
use mcpd_common::os::{Backend, CannotLook, ContainedBy, Containment, ProcessInfo, backend};

use super::operations::{
    DescendantProof, FamilyChange, LaunchSpec, ProcessOperations, ProcessSnapshot, Started,
};

pub mod attribution;
pub mod cgroups;
mod snapshot;

pub use cgroups::Cgroups;

use attribution::{Attribution, Scan};
use snapshot::Family;

/// The kernel's word against our eyes.
const UNSEEN: &str = "the kernel says that a descendant of mcpd is left, but none could be seen";
/// Where it has no word.
const NOT_LOOKED: &str = "no descriptor is left to look with: a process of mcpd may be left";

/// As often is looked for somebody who is not stopped yet.
const LOOKS_TO_FREEZE: usize = 5;

/// Everything below the daemon.
pub struct Children {
    run: RunTag,
    open_files: OpenFileLimit,
    families: BTreeMap<Slot, Family>,
    /// Whose an orphan is, asked once: a zombie has no mark any more.
    orphans: HashMap<(Pid, StartTime), Option<Slot>>,
    /// Children that this process had before it was mcpd (`sleep 9 & exec mcpd`): not ours, never
    /// touched.
    inherited: HashSet<Pid>,
    /// Where the daemon is no subreaper.
    elsewhere: Option<Attribution>,
    cgroups: Option<Cgroups>,
    /// Why there are no cgroups, or why not everything is in one.
    without: Option<String>,
}

impl Children {
    /// No children yet. `open_files` is the limit that workers get back; `cgroups` are theirs, or why
    /// there are none. `known_file` is for whom nobody else would know.
    ///
    /// # Errors
    /// When the children that this process has already can't be listed.
    pub fn new(
        run: RunTag,
        open_files: OpenFileLimit,
        cgroups: Result<Cgroups, String>,
        known_file: KnownProcessesFile,
    ) -> Result<Self, CannotLook> {
        let inherited = process::children(Pid::current()).complete()?.into_iter().collect();
        let (cgroups, without) = match cgroups {
            Ok(cgroups) => (Some(cgroups), None),
            Err(why) => (None, Some(why)),
        };
        let (families, orphans) = (BTreeMap::new(), HashMap::new());
        let elsewhere = (backend() == Backend::Portable).then(|| Attribution::new(run, known_file));
        Ok(Self { run, open_files, families, orphans, inherited, elsewhere, cgroups, without })
    }

    /// The way into the worker's own cgroup, which it takes before it becomes a program.
    fn entrance(&mut self, slot: Slot) -> Option<OwnedFd> {
        let cgroups = self.cgroups.as_ref()?;
        let entrance = cgroups.make(slot).and_then(|made| made.entrance());
        entrance.map_err(|error| self.goes_without(slot, &error.to_string())).ok()
    }

    fn goes_without(&mut self, slot: Slot, why: &str) {
        tracing::warn!(slot = slot.0, why, "a worker runs without a cgroup of its own");
        self.without = Some(format!("a worker runs without one: {why}"));
    }

    /// Moving may be refused to the child alone, which can't say so and is contained all the same.
    fn check_entered(&mut self, slot: Slot, pid: Pid) {
        let Some(cgroups) = &self.cgroups else { return };
        match cgroups.owner(pid) {
            Ok(owner) if owner == Some(slot) => {}
            Ok(_) => self.goes_without(slot, "the kernel did not let it in"),
            Err(error) => self.goes_without(slot, &error.to_string()),
        }
    }

    fn signal_group(&self, slot: Slot, signal: Signal) -> Delivery {
        match self.families.get(&slot) {
            // The leader is unreaped, so the id can't have been given away.
            Some(family) => child::signal_group(family.group(), signal),
            None => Delivery::Gone,
        }
    }

    fn outside_the_group(&self, slot: Slot, members: &[Process]) -> Vec<Handle> {
        let group = self.families.get(&slot).map(|family| family.leader.get());
        let outside = members.iter().filter(|member| Some(member.pgid) != group && member.state != 'Z');
        outside.filter_map(|member| Handle::open(member).ok().flatten()).collect()
    }
}

impl ProcessOperations for Children {
    fn spawn(&mut self, spec: LaunchSpec) -> Result<Started, String> {
        if let Some(leader) = self.families.get(&spec.slot).map(|family| family.leader) {
            let left = self.left_of(spec.slot);
            let named = left.first().map_or_else(|| format!("pid {leader}"), ToString::to_string);
            return Err(format!("its last process is not gone: {named}"));
        }
        let program = spec.program.display().to_string();
        let cgroup = self.entrance(spec.slot);
        let has_entered = cgroup.is_some();
        let pipe = spec.output.as_ref().and_then(|output| process::pipe_of(output.as_fd()));
        let plan = SpawnPlan {
            program: spec.program,
            args: spec.args,
            directory: spec.directory,
            env: spec.env,
            input: None,
            output: spec.output,
            mark: Mark { run: self.run, slot: spec.slot },
            open_files: self.open_files,
            cgroup,
        };
        let pid = child::spawn(plan).map_err(|error| {
            self.forget_cgroup(spec.slot);
            format!("can't start {program}: {error}")
        })?;
        // An unreaped child keeps its entry in /proc, so only a lack of descriptors can hide it.
        let leader = process::best_effort::read(pid);
        let start = leader.as_ref().map_or(StartTime(0), |process| process.start);
        self.families.insert(spec.slot, Family { leader: pid, start, exit: None });
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.born(spec.slot, leader.as_ref(), pipe);
        }
        if has_entered {
            self.check_entered(spec.slot, pid);
        }
        Ok(Started { pid, start })
    }

    fn collect(&mut self) -> Vec<FamilyChange> {
        let exited = self.note_exits();
        let mut changes = vec![];
        if !self.families.values().any(|family| family.exit.is_some()) {
            self.reap_orphans(Scan::Quick);
            return changes;
        }
        let orphans = self.stable_orphans();
        let ended: Vec<_> =
            self.families.iter().filter_map(|(slot, family)| Some((*slot, family.exit?))).collect();
        for (slot, exit) in ended {
            let rest = self.descendants_of(slot, &orphans.living);
            if exited.contains(&slot) {
                let remaining = rest.found().iter().map(told).collect();
                changes.push(FamilyChange::LeaderExited { slot, exit, remaining });
            }
            let is_alone = rest.is_proof_of_absence() && orphans.are_all;
            if is_alone && self.reap_leader(slot) {
                changes.push(FamilyChange::Gone { slot });
            }
        }
        changes
    }

    fn terminate(&mut self, slot: Slot) {
        let orphans = self.reap_orphans(Scan::Full);
        let others = self.outside_the_group(slot, self.descendants_of(slot, &orphans).found());
        // SIGCONT second: a stopped process takes the pending SIGTERM when it goes on.
        for signal in [Signal::Term, Signal::Cont] {
            let _ = self.signal_group(slot, signal);
            for process in &others {
                let _ = process.signal(signal);
            }
        }
    }

    fn kill(&mut self, slots: &BTreeSet<Slot>) {
        self.freeze(Some(slots));
        let orphans = self.reap_orphans(Scan::Full);
        for slot in slots {
            let members = self.descendants_of(*slot, &orphans);
            let _ = self.signal_group(*slot, Signal::Kill);
            for process in &self.outside_the_group(*slot, members.found()) {
                let _ = process.signal(Signal::Kill);
            }
            // Last, since it ends also what was forked meanwhile, and nothing can be forked after it.
            if let Some(cgroups) = &self.cgroups {
                cgroups.kill(*slot);
            }
        }
    }

    fn kill_all(&mut self) -> usize {
        self.freeze(None);
        for slot in self.families.keys().copied().collect::<Vec<_>>() {
            let _ = self.signal_group(slot, Signal::Kill);
        }
        let mut living = self.all().best_effort();
        living.retain(|process| process.state != 'Z');
        for process in &living {
            if let Ok(Some(handle)) = Handle::open(process) {
                let _ = handle.signal(Signal::Kill);
            }
        }
        if let Some(cgroups) = &self.cgroups {
            cgroups.kill_all();
        }
        // Counted anew: somebody who ended meanwhile may have left a child that was not listed.
        self.reap_orphans(Scan::Full);
        let left = self.all();
        let count = left.found().len();
        if left.is_complete() { count } else { count.max(1) }
    }

    fn descendants(&mut self) -> Vec<(Pid, u32)> {
        let orphans = self.reap_orphans(Scan::Full);
        let count =
            |slot| u32::try_from(self.descendants_of(slot, &orphans).found().len()).unwrap_or(u32::MAX);
        self.families.iter().map(|(slot, family)| (family.leader, count(*slot))).collect()
    }

    fn remaining(&mut self) -> ProcessSnapshot {
        self.all().found().iter().filter_map(still_there).collect()
    }

    fn prove(&mut self) -> DescendantProof {
        // What it reaps here was nobody's: every family is gone by then, or the answer is no.
        let proof = child::prove_no_children().proof;
        if backend() == Backend::Portable {
            let is_complete = self.all().is_complete();
            return if is_complete {
                DescendantProof::Unprovable
            } else {
                DescendantProof::Doubted(NOT_LOOKED)
            };
        }
        match (proof, &self.cgroups) {
            (Proof::Children, _) if !self.inherited.is_empty() => DescendantProof::Unprovable,
            (Proof::Children, _) => DescendantProof::Doubted(UNSEEN),
            (Proof::NoChildren, None) => DescendantProof::Proved(child::PROOF.to_owned()),
            (Proof::NoChildren, Some(cgroups)) => match cgroups.prove_empty() {
                Some(empty) => DescendantProof::Proved(format!("{}; {empty}", child::PROOF)),
                None => DescendantProof::Doubted(UNSEEN),
            },
        }
    }

    fn containment(&self) -> Containment {
        let without = self.without.as_ref();
        let (by, detail) = match (&self.cgroups, backend()) {
            (Some(cgroups), _) => {
                let but = without.map(|why| format!("; {why}"));
                (ContainedBy::Cgroup, format!("{}{}", cgroups.describe(), but.unwrap_or_default()))
            }
            (None, Backend::Linux) => (ContainedBy::Subreaper, no_cgroup(without)),
            (None, Backend::Portable) => (ContainedBy::Marks, "groups, sessions, tree, marks".to_owned()),
        };
        Containment { by, detail }
    }

    fn dismantle(&mut self) -> Result<(), String> {
        match self.cgroups.take() {
            Some(cgroups) => cgroups.layout().take_down().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

/// As a report names it. One that vanished this moment is told by what was seen of it: it may have left
/// a successor behind, and "nobody remains" would end the search.
fn told(seen: &Process) -> ProcessInfo {
    process::describe(seen.pid).unwrap_or_else(|| ProcessInfo {
        pid: seen.pid,
        ppid: seen.ppid,
        pgid: Pid::new(seen.pgid).map(Pgid::led_by),
        state: seen.state,
        name: seen.name.clone(),
        command: format!("[{}]", seen.name),
        user: "unknown user".to_owned(),
    })
}

/// As a report names it; `None` if it has exited and was reaped since.
fn still_there(seen: &Process) -> Option<ProcessInfo> {
    (process::read(seen.pid) != Ok(None)).then(|| told(seen))
}

fn no_cgroup(why: Option<&String>) -> String {
    why.map_or_else(|| "no cgroup".to_owned(), |why| format!("no cgroup: {why}"))
}

impl Children {
    /// Everything that is left of a slot, the leader last.
    fn left_of(&mut self, slot: Slot) -> ProcessSnapshot {
        let orphans = self.reap_orphans(Scan::Full);
        let mut left = self.descendants_of(slot, &orphans);
        left.extend(self.families.get(&slot).and_then(|family| process::best_effort::read(family.leader)));
        left.found().iter().filter_map(still_there).collect()
    }

    /// Reaps the leader of a family that is gone otherwise; false while a tracer holds it.
    fn reap_leader(&mut self, slot: Slot) -> bool {
        let Some(family) = self.families.get(&slot) else {
            return false;
        };
        let reaped = child::reap(family.leader).is_some();
        if reaped {
            tracing::debug!(pid = %family.leader, start = family.start.0, "reaped leader");
            self.families.remove(&slot);
            self.forget_cgroup(slot);
        }
        reaped
    }

    /// Stops everything of these slots, or of all, before it is killed: where nobody inherits the
    /// children of who is killed, nobody may fork between being seen and being killed.
    fn freeze(&mut self, slots: Option<&BTreeSet<Slot>>) {
        if self.elsewhere.is_none() {
            return;
        }
        let is_wanted = |slot: &Slot| slots.is_none_or(|slots| slots.contains(slot));
        for slot in self.families.keys().filter(|slot| is_wanted(slot)) {
            let _ = self.signal_group(*slot, Signal::Stop);
        }
        let mut stopped = HashSet::new();
        for _ in 0..LOOKS_TO_FREEZE {
            let before = stopped.len();
            let scan = self.look_elsewhere(Scan::Full, |process, owner| {
                let wanted = owner.as_ref().map_or(slots.is_none(), is_wanted);
                if wanted
                    && process.state != 'T'
                    && stopped.insert((process.pid, process.start))
                    && let Ok(Some(handle)) = Handle::open(process)
                {
                    let _ = handle.signal(Signal::Stop);
                }
            });
            if stopped.len() == before && scan.is_complete() {
                return;
            }
        }
    }

    fn forget_cgroup(&self, slot: Slot) {
        if let Some(cgroups) = &self.cgroups {
            cgroups.remove(slot);
        }
    }
}
