//! Starts, signals and lookups of the process thread.

use std::collections::BTreeSet;

use mcpd_common::ids::{Pid, Slot};
use mcpd_common::os::child;
use mcpd_common::os::process::StartTime;
use mcpd_common::os::{ContainedBy, Containment};

use super::behaviour::ms;
use super::system::{Effect, FakeProcess, FakeSystem, Family};
use crate::deadline;
use crate::process::operations::{
    DescendantProof, FamilyChange, LaunchSpec, ProcessOperations, ProcessSnapshot, Started,
};

impl ProcessOperations for FakeSystem {
    fn spawn(&mut self, spec: LaunchSpec) -> Result<(), String> {
        let mut inner = self.inner();
        if inner.families.contains_key(&spec.slot) {
            inner.record(spec.slot, Effect::SpawnedTooEarly);
            return Err("its last process is not gone".to_owned());
        }
        let behaviour = inner.behaviour(spec.slot, &spec.program.to_string_lossy());
        let Some(behaviour) = behaviour.filter(|behaviour| !behaviour.fails_to_start) else {
            return Err(format!("can't start {}", spec.program.display()));
        };
        inner.record(spec.slot, Effect::Spawned);
        let mut leader = inner.new_process(behaviour.leader, 'S');
        let unrequested_exit =
            behaviour.unrequested_exit.and_then(|(after, exit)| leader.exit_after(after, exit));
        let descendants =
            behaviour.descendants.iter().map(|reaction| inner.new_process(*reaction, 'S')).collect();
        let hangs_until = behaviour.start_hangs.then(|| deadline::now() + ms(10_000));
        let start_reported = false;
        let family =
            Family { leader, descendants, hangs_until, start_reported, exit_reported: false, killed: false };
        inner.families.insert(spec.slot, family);
        drop(inner);
        self.signal_exit_at(unrequested_exit);
        Ok(())
    }

    fn collect(&mut self) -> Vec<FamilyChange> {
        let mut inner = self.inner();
        inner.polls += 1;
        let mut changes = vec![];
        let mut gone = vec![];
        for (slot, family) in &mut inner.families {
            changes.extend(family.follow_start(*slot));
            let Some(exit) = family.leader.exit_status() else { continue };
            let remaining = family.remaining();
            let is_gone = remaining.is_empty();
            if !std::mem::replace(&mut family.exit_reported, true) {
                changes.push(FamilyChange::LeaderExited { slot: *slot, exit, remaining });
            }
            if is_gone {
                gone.push(*slot);
                changes.push(FamilyChange::Gone { slot: *slot });
            }
        }
        for slot in gone {
            inner.families.remove(&slot);
            inner.record(slot, Effect::Gone);
        }
        inner.strays.retain(|stray| !stray.has_exited());
        changes
    }

    /// No fake process is ever stopped by `SIGSTOP`.
    fn resume(&mut self, _: Slot) {}

    fn terminate(&mut self, slot: Slot) {
        let mut inner = self.inner();
        let Some(family) = inner.families.get_mut(&slot) else { return };
        let exits: Vec<_> = family.processes_mut().map(FakeProcess::receive_sigterm).collect();
        inner.record(slot, Effect::Terminated);
        drop(inner);
        exits.into_iter().for_each(|exit| self.signal_exit_at(exit));
    }

    fn kill(&mut self, slots: &BTreeSet<Slot>) {
        for slot in slots {
            self.kill_family(*slot);
        }
    }

    fn kill_all(&mut self) -> usize {
        let slots: Vec<_> = self.inner().families.keys().copied().collect();
        let members: usize = slots.into_iter().map(|slot| self.kill_family(slot)).sum();
        let mut inner = self.inner();
        let strays = inner.strays.iter_mut().filter(|stray| !stray.is_zombie());
        let exits: Vec<_> = strays.map(FakeProcess::receive_sigkill).collect();
        drop(inner);
        let strays = exits.len();
        exits.into_iter().for_each(|exit| self.signal_exit_at(exit));
        members + strays
    }

    fn descendants(&mut self) -> Vec<(Pid, u32)> {
        let count = |family: &Family| u32::try_from(family.remaining().len()).unwrap_or(u32::MAX);
        self.inner().families.values().map(|family| (family.leader.pid, count(family))).collect()
    }

    fn remaining(&mut self) -> ProcessSnapshot {
        self.inner().remaining()
    }

    fn prove(&mut self) -> DescendantProof {
        if self.inner().remaining().is_empty() {
            DescendantProof::Proved(child::PROOF.to_owned())
        } else {
            DescendantProof::Doubted("a process is left")
        }
    }

    fn containment(&self) -> Containment {
        Containment { by: ContainedBy::Subreaper, detail: "a fake".to_owned() }
    }

    fn dismantle(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl Family {
    /// The result of the start, once.
    fn follow_start(&mut self, slot: Slot) -> Option<FamilyChange> {
        let is_pending =
            self.hangs_until.is_some_and(|until| deadline::now() < until) && !self.leader.has_exited();
        if is_pending || std::mem::replace(&mut self.start_reported, true) {
            return None;
        }
        let leader = Started { pid: self.leader.pid, start: StartTime(1) };
        if self.hangs_until.is_some() && !self.leader.has_exited() {
            let reason = "does not respond".to_owned();
            return Some(FamilyChange::StartHangs { slot, leader, reason });
        }
        Some(FamilyChange::Started { slot, leader })
    }
}

impl FakeSystem {
    /// Sends `SIGKILL` to a family and returns how many of its processes are still running.
    fn kill_family(&self, slot: Slot) -> usize {
        let mut inner = self.inner();
        let Some(family) = inner.families.get_mut(&slot) else { return 0 };
        let exits: Vec<_> = family.processes_mut().map(FakeProcess::receive_sigkill).collect();
        let running = family.processes().filter(|process| !process.has_exited()).count();
        if !std::mem::replace(&mut family.killed, true) {
            inner.record(slot, Effect::Killed);
        }
        drop(inner);
        exits.into_iter().for_each(|exit| self.signal_exit_at(exit));
        running
    }
}
