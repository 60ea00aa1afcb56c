//! Signals to families: one pass each; the process thread repeats passes until the processes are gone.

use std::collections::{BTreeSet, HashSet};

use mcpd_common::ids::Slot;
use mcpd_common::os::child::{self, Delivery, Handle, Signal};
use mcpd_common::os::process::Process;

use super::Children;
use super::attribution::ScanDepth;

/// The largest number of scans for processes that are not stopped yet.
const MAX_FREEZE_SCANS: usize = 5;

impl Children {
    pub(super) fn terminate_family(&mut self, slot: Slot) {
        let orphans = self.reap_orphans(ScanDepth::Full);
        let outside = self.handles_outside_group(slot, self.descendants_of(slot, &orphans).found());
        // SIGCONT second: a stopped process handles the pending SIGTERM when it continues.
        for signal in [Signal::Term, Signal::Cont] {
            let _ = self.signal_group(slot, signal);
            for process in &outside {
                let _ = process.signal(signal);
            }
        }
    }

    pub(super) fn kill_families(&mut self, slots: &BTreeSet<Slot>) {
        self.freeze(Some(slots));
        let orphans = self.reap_orphans(ScanDepth::Full);
        for slot in slots {
            let descendants = self.descendants_of(*slot, &orphans);
            let _ = self.signal_group(*slot, Signal::Kill);
            for process in &self.handles_outside_group(*slot, descendants.found()) {
                let _ = process.signal(Signal::Kill);
            }
            // Last, because it also kills what was forked since the snapshot, and nothing can fork after it.
            if let Some(cgroups) = &self.cgroups {
                cgroups.kill(*slot);
            }
        }
    }

    pub(super) fn kill_everything(&mut self) {
        self.freeze(None);
        for slot in self.families.keys() {
            let _ = self.signal_group(*slot, Signal::Kill);
        }
        let living = self.all().best_effort();
        for process in living.iter().filter(|process| process.state != 'Z') {
            if let Ok(Some(handle)) = Handle::open(process) {
                let _ = handle.signal(Signal::Kill);
            }
        }
        if let Some(cgroups) = &self.cgroups {
            cgroups.kill_all();
        }
    }

    pub(super) fn signal_group(&self, slot: Slot, signal: Signal) -> Delivery {
        match self.families.get(&slot) {
            // The leader is unreaped, so the id of its group is not reused.
            Some(family) => child::signal_group(family.group(), signal),
            None => Delivery::Gone,
        }
    }

    fn handles_outside_group(&self, slot: Slot, descendants: &[Process]) -> Vec<Handle> {
        let group = self.families.get(&slot).map(|family| family.leader.get());
        let outside =
            descendants.iter().filter(|process| Some(process.pgid) != group && process.state != 'Z');
        // A process for which no handle can be opened now is signalled in the next pass.
        outside.filter_map(|process| Handle::open(process).ok().flatten()).collect()
    }

    /// Stops everything of these slots, or of all, before it is killed. Without a subreaper a process that
    /// forks between snapshot and `SIGKILL` leaves a child that may not be attributed any more.
    fn freeze(&mut self, slots: Option<&BTreeSet<Slot>>) {
        if self.attribution.is_none() {
            return;
        }
        let is_wanted = |slot: &Slot| slots.is_none_or(|slots| slots.contains(slot));
        for slot in self.families.keys().filter(|slot| is_wanted(slot)) {
            let _ = self.signal_group(*slot, Signal::Stop);
        }
        let mut stopped = HashSet::new();
        for _ in 0..MAX_FREEZE_SCANS {
            let mut is_frozen = true;
            let scan = self.scan_detached(ScanDepth::Full, |process, owner| {
                let key = (process.pid, process.start);
                let is_wanted = owner.as_ref().map_or(slots.is_none(), is_wanted);
                if !is_wanted || process.state == 'T' || stopped.contains(&key) {
                    return;
                }
                is_frozen = false;
                if let Ok(handle) = Handle::open(process) {
                    let _ = handle.map(|handle| handle.signal(Signal::Stop));
                    stopped.insert(key);
                }
            });
            if is_frozen && scan.is_complete() {
                return;
            }
        }
    }
}
