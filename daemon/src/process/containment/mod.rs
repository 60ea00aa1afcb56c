//! Starts, attributes and kills the processes of the workers: the real [`ProcessOperations`].
//!
//! A **family** is a leader, the process that the daemon started for a slot, and all its descendants. The
//! daemon is a child subreaper, so an **orphan**, a descendant whose parent exited, becomes a child of the
//! daemon:
//!
//! ```text
//!   mcpd ---- leader (unreaped until the family is gone, so that its group id is not reused)
//!        |       `-- child -- grandchild            found through the tree
//!        `-- orphan -- its children                 attributed by cgroup, mark, session or group
//! ```
//!
//! The portable backend has no subreaper: there orphans are reparented to init. Such **detached** processes
//! are attributed among all processes of the machine (`attribution.rs`).
//!
//! The leader's group is signalled by its id; every other process by a handle whose start time was compared
//! with the snapshot, so that no reused pid is signalled. Where a cgroup is delegated, each family has a
//! cgroup of its own (`cgroups.rs`): it attributes orphans, is killed as a whole, and must be empty before the
//! family counts as gone.
//!
//! Descriptors or memory can run out. A family counts as gone, and the daemon's shutdown as clean, only if
//! everything could be read (`CannotLook`).
//!
//! ```text
//!   start.rs        starts a leader, in its cgroup
//!   snapshot.rs     the processes that exist, and the family of each
//!   attribution.rs  detached processes             cgroups.rs   the cgroups of the run
//!   signals.rs      SIGTERM, SIGSTOP, SIGKILL
//!   report.rs       descriptions and proofs for the supervisor
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mcpd_common::ids::{Pgid, Pid, RunTag, Slot};
use mcpd_common::known_processes::KnownProcessesFile;
use mcpd_common::os::child::{self, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::this_process::OpenFileLimit;
use mcpd_common::os::{Backend, CannotLook, Containment, Listing, backend};
use mcpd_common::outcome::ExitStatus;

use super::operations::{
    DescendantProof, FamilyChange, LaunchSpec, ProcessOperations, ProcessSnapshot, Started,
};

pub mod attribution;
pub mod cgroups;
mod report;
mod signals;
mod snapshot;
mod start;

use attribution::{Attribution, ScanDepth};
pub use cgroups::Cgroups;
use start::StartState;

/// All processes below the daemon.
pub struct Children {
    run: RunTag,
    open_files: OpenFileLimit,
    families: BTreeMap<Slot, Family>,
    /// The slots of orphans, kept because a zombie has no mark any more.
    orphan_slots: HashMap<(Pid, StartTime), Option<Slot>>,
    /// Children that this process had before it was mcpd (`sleep 9 & exec mcpd`): never signalled or reaped.
    inherited: HashSet<Pid>,
    /// `Some` where the daemon is no subreaper.
    attribution: Option<Attribution>,
    cgroups: Option<Cgroups>,
    /// Why there are no cgroups, or why a process runs outside of them.
    without_cgroup: Option<String>,
}

/// A leader that is not reaped yet.
struct Family {
    leader: Pid,
    start: StartTime,
    start_state: StartState,
    exit: Option<ExitStatus>,
    /// Whether its supervisor knows of descendants that outlived the leader.
    has_reported_descendants: bool,
}

impl Family {
    fn group(&self) -> Pgid {
        Pgid::led_by(self.leader)
    }
}

impl Children {
    /// `open_files` is the limit that workers get; `cgroups` are the cgroups of this run, or why there are
    /// none; `known_file` gets the detached processes, for recovery after a crash.
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
        let (cgroups, without_cgroup) = match cgroups {
            Ok(cgroups) => (Some(cgroups), None),
            Err(why) => (None, Some(why)),
        };
        Ok(Self {
            run,
            open_files,
            families: BTreeMap::new(),
            orphan_slots: HashMap::new(),
            inherited,
            attribution: (backend() == Backend::Portable).then(|| Attribution::new(run, known_file)),
            cgroups,
            without_cgroup,
        })
    }

    fn failed_start(&self, slot: Slot) -> Option<String> {
        match &self.families.get(&slot)?.start_state {
            StartState::Failed(reason) => Some(reason.clone()),
            StartState::Pending(_) | StartState::Done => None,
        }
    }

    /// Whether these are the first descendants found of a family; from now on they count as reported.
    fn finds_first_descendants(&mut self, slot: Slot, descendants: &Listing<Process>) -> bool {
        let Some(family) = self.families.get_mut(&slot).filter(|_| !descendants.found().is_empty()) else {
            return false;
        };
        !std::mem::replace(&mut family.has_reported_descendants, true)
    }
}

impl ProcessOperations for Children {
    fn spawn(&mut self, spec: LaunchSpec) -> Result<(), String> {
        if let Some(family) = self.families.get(&spec.slot) {
            return Err(format!("its last process, pid {}, is not gone", family.leader));
        }
        self.start_leader(spec)
    }

    fn collect(&mut self) -> Vec<FamilyChange> {
        // In this order: the start of a leader that exited is reported before its exit.
        let exited = self.record_leader_exits();
        let mut changes = self.follow_starts();
        if !self.families.values().any(|family| family.exit.is_some()) {
            self.reap_orphans(ScanDepth::Quick);
            return changes;
        }
        let orphans = self.stable_orphans();
        let without_leader: Vec<_> =
            self.families.iter().filter_map(|(slot, family)| Some((*slot, family.exit?))).collect();
        for (slot, exit) in without_leader {
            let descendants = self.descendants_of(slot, &orphans.living);
            let failed_start = self.failed_start(slot);
            // Descendants that fork fast may be missed when the leader exits: they are reported when found.
            let finds_first = self.finds_first_descendants(slot, &descendants);
            if failed_start.is_none() && (exited.contains(&slot) || finds_first) {
                let remaining = descendants.found().iter().map(report::describe).collect();
                changes.push(FamilyChange::LeaderExited { slot, exit, remaining });
            }
            let is_alone = descendants.is_proof_of_absence() && orphans.is_complete;
            if is_alone && self.reap_leader(slot) {
                changes.push(match failed_start {
                    Some(reason) => FamilyChange::NotStarted { slot, reason },
                    None => FamilyChange::Gone { slot },
                });
            }
        }
        changes
    }

    fn resume(&mut self, slot: Slot) {
        let _ = self.signal_group(slot, Signal::Cont);
    }

    fn terminate(&mut self, slot: Slot) {
        self.terminate_family(slot);
    }

    fn kill(&mut self, slots: &BTreeSet<Slot>) {
        self.kill_families(slots);
    }

    fn kill_all(&mut self) -> usize {
        self.kill_everything();
        // Counted in a new snapshot: a process that exited meanwhile may have left an unlisted child.
        self.reap_orphans(ScanDepth::Full);
        let left = self.all();
        let count = left.found().len();
        if left.is_complete() { count } else { count.max(1) }
    }

    fn descendants(&mut self) -> Vec<(Pid, u32)> {
        let orphans = self.reap_orphans(ScanDepth::Full);
        let count =
            |slot| u32::try_from(self.descendants_of(slot, &orphans).found().len()).unwrap_or(u32::MAX);
        self.families.iter().map(|(slot, family)| (family.leader, count(*slot))).collect()
    }

    fn remaining(&mut self) -> ProcessSnapshot {
        self.all().found().iter().filter_map(report::describe_if_existing).collect()
    }

    fn prove(&mut self) -> DescendantProof {
        // Reaps orphans only: by now every family is gone, or its unreaped leader prevents the proof.
        let proof = child::prove_no_children().proof;
        match backend() {
            Backend::Linux => report::linux_proof(proof, &self.inherited, self.cgroups.as_ref()),
            Backend::Portable => report::portable_proof(&self.all()),
        }
    }

    fn containment(&self) -> Containment {
        report::containment(self.cgroups.as_ref(), self.without_cgroup.as_deref())
    }

    fn dismantle(&mut self) -> Result<(), String> {
        match self.cgroups.take() {
            Some(cgroups) => cgroups.layout().take_down().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot(3);

    fn children(directory: &std::path::Path) -> Children {
        let run = RunTag(std::process::id());
        let known_file = KnownProcessesFile::new(directory.join("members.json"), run);
        let open_files = OpenFileLimit { soft: 256, hard: 512 };
        Children::new(run, open_files, Err("it is a test".to_owned()), known_file).expect("readable")
    }

    fn sleep(seconds: &str) -> LaunchSpec {
        LaunchSpec {
            slot: SLOT,
            program: "sleep".into(),
            args: vec![seconds.into()],
            directory: "/".into(),
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())],
            output: None,
            mcp: None,
        }
    }

    /// R-SUP-4.
    #[test]
    fn a_slot_has_one_leader_at_a_time() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut children = children(directory.path());
        children.spawn(sleep("60")).expect("started");
        let leader = children.families[&SLOT].leader;
        let refused = children.spawn(sleep("60"));
        assert_eq!(refused, Err(format!("its last process, pid {leader}, is not gone")));
        assert_eq!(children.signal_group(SLOT, Signal::Kill), child::Delivery::Sent);
        while child::reap(leader).is_none() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_can_not_be_forked_leaves_no_family() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut children = children(directory.path());
        let error = children.spawn(sleep("a\0b")).expect_err("no argument has a NUL byte");
        assert!(error.starts_with("can't start sleep: "), "{error}");
        assert_eq!(children.signal_group(SLOT, Signal::Cont), child::Delivery::Gone);
    }
}
