//! Snapshots of the processes that exist, the family of each, and reaping.

use std::collections::{HashMap, HashSet};

use mcpd_common::ids::{Pgid, Pid, Slot};
use mcpd_common::os::child::{self, Signal};
use mcpd_common::os::process::{self, Process};
use mcpd_common::os::{CannotLook, Listing};

use super::Children;
use super::attribution::{AttributedProcess, Owner, ScanDepth};

/// The largest number of rescans when processes exit during a scan: a process that keeps forking must not
/// block the process thread.
const MAX_RESCANS: usize = 3;

/// Orphans and detached processes, each with its family.
pub(super) struct OrphanSnapshot {
    pub living: Vec<AttributedProcess>,
    /// No process was missed: none exited during the scan, and all could be read.
    pub is_complete: bool,
}

impl Children {
    /// All processes of this run below the daemon, in its cgroups, and detached.
    pub(super) fn all(&mut self) -> Listing<Process> {
        let mut all = Listing::default();
        for child in all.take(self.own_children()) {
            let process = all.record(process::read(child));
            all.extend(process);
            all.append(process::tree(child));
        }
        let detached = all.take(self.scan_detached(ScanDepth::Full, |_, _| {}));
        add_missing(detached.into_iter().map(|(process, _)| process.pid).collect(), &mut all);
        if let Some(cgroups) = &self.cgroups {
            let members = all.take(cgroups.all_members());
            add_missing(members, &mut all);
        }
        all
    }

    /// All processes of a family except its leader, parents first.
    pub(super) fn descendants_of(&self, slot: Slot, orphans: &[AttributedProcess]) -> Listing<Process> {
        let mut all = Listing::default();
        let Some(family) = self.families.get(&slot) else {
            return all;
        };
        let orphans = orphans.iter().filter(|(_, owner)| *owner == Some(slot));
        if self.attribution.is_some() {
            // The scan for detached processes includes those below the leader.
            all.extend(orphans.map(|(process, _)| process.clone()));
            return all;
        }
        if family.exit.is_none() {
            all.append(process::tree(family.leader));
        }
        for (orphan, _) in orphans {
            all.extend([orphan.clone()]);
            all.append(process::tree(orphan.pid));
        }
        // While the leader lives the tree is enough; after its exit no process may be missed.
        if let (Some(cgroups), Some(_)) = (&self.cgroups, family.exit) {
            let mut members = all.take(cgroups.members(slot));
            members.retain(|pid| *pid != family.leader);
            add_missing(members, &mut all);
        }
        all
    }

    /// Reaps orphans that exited; returns those that live, and detached processes.
    pub(super) fn reap_orphans(&mut self, depth: ScanDepth) -> Vec<AttributedProcess> {
        self.snapshot_orphans(depth).living
    }

    /// A snapshot that is good enough to decide that a family is gone. It is repeated if a process exited
    /// during the scan, because the children of that process are reparented after their new parent was read.
    pub(super) fn stable_orphans(&mut self) -> OrphanSnapshot {
        let mut snapshot = self.snapshot_orphans(ScanDepth::Full);
        // Without a subreaper also a scan without exits may miss a process: a new child may have got a pid
        // that the scan had passed already.
        let needs_rescan = self.attribution.is_some();
        for _ in 0..MAX_RESCANS {
            let seem_gone = self.groups_that_seem_gone(&snapshot);
            if seem_gone.is_empty() || (snapshot.is_complete && !needs_rescan) {
                break;
            }
            if needs_rescan {
                // A stopped process can't fork away from the scan. The leader is unreaped, so the id of its
                // group is not reused.
                for group in seem_gone {
                    let _ = child::signal_group(group, Signal::Stop);
                }
            }
            snapshot = self.snapshot_orphans(ScanDepth::Full);
        }
        snapshot
    }

    /// The groups of families whose leader exited, and of which no descendant was found.
    fn groups_that_seem_gone(&self, orphans: &OrphanSnapshot) -> Vec<Pgid> {
        let exited = self.families.iter().filter(|(_, family)| family.exit.is_some());
        let gone = exited.filter(|(slot, _)| self.descendants_of(**slot, &orphans.living).found().is_empty());
        gone.map(|(_, family)| family.group()).collect()
    }

    fn snapshot_orphans(&mut self, depth: ScanDepth) -> OrphanSnapshot {
        let mut slots = HashMap::new();
        let mut living = Listing::default();
        let mut has_reaped = false;
        for pid in living.take(self.orphans()) {
            if child::reap(pid).is_some() {
                has_reaped = true;
                continue;
            }
            let Some(orphan) = living.record(process::read(pid)) else { continue };
            let key = (pid, orphan.start);
            let slot = match self.orphan_slots.get(&key).copied().flatten() {
                Some(slot) => Some(slot),
                None => living.record(self.slot_of_orphan(&orphan)),
            };
            slots.insert(key, slot);
            living.extend([(orphan, slot)]);
        }
        if living.is_complete() {
            self.orphan_slots.clear();
        }
        // After an incomplete scan the slots of orphans that could not be read are kept.
        self.orphan_slots.extend(slots);
        living.append(self.scan_detached(depth, |_, _| {}));
        OrphanSnapshot { is_complete: !has_reaped && living.is_complete(), living: living.best_effort() }
    }

    /// The daemon's children that belong to this run, leaders and orphans alike.
    fn own_children(&self) -> Listing<Pid> {
        let mut children = process::children(Pid::current());
        children.retain(|pid| !self.inherited.contains(pid));
        children
    }

    /// The daemon's children that are no leaders.
    fn orphans(&self) -> Listing<Pid> {
        let leaders: HashSet<_> = self.families.values().map(|family| family.leader).collect();
        let mut children = self.own_children();
        children.retain(|pid| !leaders.contains(pid));
        children
    }

    /// The family of an orphan. The cgroup comes first, because only a deliberate move changes it.
    fn slot_of_orphan(&self, orphan: &Process) -> Result<Option<Slot>, CannotLook> {
        let is_known = |slot: &Slot| self.families.contains_key(slot);
        if let Some(cgroups) = &self.cgroups
            && let Some(slot) = cgroups.owner(orphan.pid)?.filter(is_known)
        {
            return Ok(Some(slot));
        }
        let mark = process::mark(orphan.pid)?.filter(|mark| mark.run == self.run);
        if let Some(slot) = mark.map(|mark| mark.slot).filter(is_known) {
            return Ok(Some(slot));
        }
        let ids = [orphan.session, orphan.pgid];
        let family = self.families.iter().find(|(_, family)| ids.contains(&family.leader.get()));
        Ok(family.map(|(slot, _)| *slot))
    }

    /// Detached processes, where the daemon is no subreaper; `found` gets each at once.
    pub(super) fn scan_detached(
        &mut self,
        depth: ScanDepth,
        found: impl FnMut(&Process, Owner),
    ) -> Listing<AttributedProcess> {
        match &mut self.attribution {
            Some(attribution) => attribution.scan(&self.families, &self.inherited, depth, found),
            None => Listing::default(),
        }
    }

    /// Notes the exit status of leaders without reaping them; returns the slots whose leader exited now.
    pub(super) fn record_leader_exits(&mut self) -> Vec<Slot> {
        let mut exited = vec![];
        // One system call instead of one for each leader; usually no child has exited.
        if !child::has_any_ended() {
            return exited;
        }
        for (slot, family) in &mut self.families {
            if family.exit.is_none() {
                family.exit = child::peek_exit(family.leader);
                if family.exit.is_some() {
                    exited.push(*slot);
                }
            }
        }
        exited
    }

    /// Reaps the leader of a family without descendants; false while a tracer prevents it.
    pub(super) fn reap_leader(&mut self, slot: Slot) -> bool {
        let Some(family) = self.families.get(&slot) else {
            return false;
        };
        let is_reaped = child::reap(family.leader).is_some();
        if is_reaped {
            tracing::debug!(pid = %family.leader, start = family.start.0, "reaped leader");
            self.families.remove(&slot);
            self.remove_cgroup(slot);
        }
        is_reaped
    }
}

fn add_missing(pids: Vec<Pid>, all: &mut Listing<Process>) {
    let listed: HashSet<_> = all.found().iter().map(|process| process.pid).collect();
    for pid in pids.into_iter().filter(|pid| !listed.contains(pid)) {
        let process = all.record(process::read(pid));
        all.extend(process);
    }
}
