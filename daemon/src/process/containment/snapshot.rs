//! Which process belongs to whom: families, orphans, and to whom an orphan is given.

use std::collections::{HashMap, HashSet};

use mcpd_common::ids::{Pgid, Pid, Slot};
use mcpd_common::os::child::{self, Signal};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{CannotLook, Listing};
use mcpd_common::outcome::ExitStatus;

use super::Children;
use super::attribution::{AttributedProcess, Scan};

/// A leader and what is known of it.
pub(super) struct Family {
    pub leader: Pid,
    pub start: StartTime,
    pub exit: Option<ExitStatus>,
}

impl Family {
    pub fn group(&self) -> Pgid {
        Pgid::led_by(self.leader)
    }
}

/// As often a census is taken anew at once because somebody ended meanwhile; a process that keeps
/// forking must not keep us from everything else.
const LOOKS: usize = 3;

/// A census of orphans, and whose each is.
pub(super) struct Orphans {
    pub living: Vec<AttributedProcess>,
    /// Nobody can have been missed: nobody ended meanwhile, and all could be looked at.
    pub are_all: bool,
}

impl Children {
    /// The daemon's own children, leaders and orphans alike.
    fn children(&self) -> Listing<Pid> {
        let mut children = process::children(Pid::current());
        children.retain(|pid| !self.inherited.contains(pid));
        children
    }

    /// The daemon's own children that lead no family.
    fn orphans(&self) -> Listing<Pid> {
        let leaders: HashSet<_> = self.families.values().map(|family| family.leader).collect();
        let mut children = self.children();
        children.retain(|pid| !leaders.contains(pid));
        children
    }

    /// Everything below the daemon that is ours, and what else lives in our cgroups or elsewhere.
    pub(super) fn all(&mut self) -> Listing<Process> {
        let mut all = Listing::default();
        for child in all.take(self.children()) {
            let process = all.record(process::read(child));
            all.extend(process);
            all.append(process::tree(child));
        }
        let elsewhere = all.take(self.look_elsewhere(Scan::Full, |_, _| {}));
        add_missing(elsewhere.into_iter().map(|(process, _)| process.pid).collect(), &mut all);
        if let Some(cgroups) = &self.cgroups {
            let members = all.take(cgroups.all_members());
            add_missing(members, &mut all);
        }
        all
    }

    /// Reaps orphans that ended, and learns whose the others are.
    pub(super) fn reap_orphans(&mut self, scan: Scan) -> Vec<AttributedProcess> {
        self.look_at_orphans(scan).living
    }

    /// Those who left the tree, where nobody brings them back to us.
    pub(super) fn look_elsewhere(
        &mut self,
        scan: Scan,
        found: impl FnMut(&Process, Option<Slot>),
    ) -> Listing<AttributedProcess> {
        let (families, inherited) = (&self.families, &self.inherited);
        let elsewhere = self.elsewhere.as_mut();
        elsewhere.map(|elsewhere| elsewhere.look(families, inherited, scan, found)).unwrap_or_default()
    }

    /// A census that says for certain of whom nobody is left, if there is one. The list of a moment in
    /// which somebody ended does not show whom he left behind, who became our child only then.
    pub(super) fn stable_orphans(&mut self) -> Orphans {
        let mut seen = self.look_at_orphans(Scan::Full);
        // Attribution even a census without any end may miss one: the child of one who was not listed
        // yet may have got a pid that was passed already.
        let one_is_enough = self.elsewhere.is_none();
        for _ in 0..LOOKS {
            let seem_gone = self.families_that_seem_gone(&seen);
            if (seen.are_all && one_is_enough) || seem_gone.is_empty() {
                break;
            }
            if !one_is_enough {
                // Who is stopped can be seen, however fast it forks. The leader is unreaped, so the
                // group is still ours.
                for group in seem_gone {
                    let _ = child::signal_group(group, Signal::Stop);
                }
            }
            seen = self.look_at_orphans(Scan::Full);
        }
        seen
    }

    fn families_that_seem_gone(&self, orphans: &Orphans) -> Vec<Pgid> {
        let ended = self.families.iter().filter(|(_, family)| family.exit.is_some());
        let gone = ended.filter(|(slot, _)| self.descendants_of(**slot, &orphans.living).found().is_empty());
        gone.map(|(_, family)| family.group()).collect()
    }

    fn look_at_orphans(&mut self, scan: Scan) -> Orphans {
        let (listing, reaped) = self.list_orphans(scan);
        Orphans { are_all: reaped == 0 && listing.is_complete(), living: listing.best_effort() }
    }

    /// The living ones, and how many were reaped.
    fn list_orphans(&mut self, scan: Scan) -> (Listing<AttributedProcess>, usize) {
        let mut known = HashMap::new();
        let mut living = Listing::default();
        let mut reaped = 0;
        for pid in living.take(self.orphans()) {
            if child::reap(pid).is_some() {
                reaped += 1;
                continue;
            }
            let Some(orphan) = living.record(process::read(pid)) else { continue };
            let key = (pid, orphan.start);
            let slot = match self.orphans.get(&key).copied().flatten() {
                Some(slot) => Some(slot),
                None => living.record(self.attribute(&orphan)),
            };
            known.insert(key, slot);
            living.extend([(orphan, slot)]);
        }
        if living.is_complete() {
            self.orphans = known;
        } else {
            // An orphan that can't be read now is attributed as before when it can be read again.
            self.orphans.extend(known);
        }
        living.append(self.look_elsewhere(scan, |_, _| {}));
        (living, reaped)
    }

    /// Its cgroup first, which takes a deliberate move to leave; then what can be lost by accident.
    fn attribute(&self, orphan: &Process) -> Result<Option<Slot>, CannotLook> {
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

    /// Everything of a family but its leader, parents first.
    pub(super) fn descendants_of(&self, slot: Slot, orphans: &[AttributedProcess]) -> Listing<Process> {
        let mut all = Listing::default();
        let Some(family) = self.families.get(&slot) else {
            return all;
        };
        let orphans = orphans.iter().filter(|(_, owner)| *owner == Some(slot));
        if self.elsewhere.is_some() {
            // They were looked for among all processes, those below the leader included.
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
        // While the leader lives the tree says enough; when it is gone nobody may be missed.
        if let (Some(cgroups), Some(_)) = (&self.cgroups, family.exit) {
            let mut members = all.take(cgroups.members(slot));
            members.retain(|pid| *pid != family.leader);
            add_missing(members, &mut all);
        }
        all
    }

    pub(super) fn note_exits(&mut self) -> Vec<Slot> {
        let mut exited = vec![];
        // Most looks find nobody, and most workers are many.
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
}

fn add_missing(pids: Vec<Pid>, all: &mut Listing<Process>) {
    let listed: HashSet<_> = all.found().iter().map(|process| process.pid).collect();
    for pid in pids.into_iter().filter(|pid| !listed.contains(pid)) {
        let process = all.record(process::read(pid));
        all.extend(process);
    }
}
