//! The number that each worker of a run has: allocated once, never derived from a position in a list.

use std::collections::BTreeMap;

use mcpd_common::ids::{Slot, WorkerName};

/// The allocated numbers. Marks, cgroups and the run file carry them, so one is never given away twice in a run.
#[derive(Clone, Debug, Default)]
pub struct Slots {
    allocated: BTreeMap<WorkerName, Slot>,
    /// For processes of single sessions.
    of_sessions: BTreeMap<WorkerName, Vec<Slot>>,
    next: u16,
}

impl Slots {
    /// Allocates a number to each of these workers.
    pub fn allocate<'a>(names: impl IntoIterator<Item = &'a WorkerName>) -> Self {
        let mut slots = Self::default();
        for name in names {
            slots.add(name);
        }
        slots
    }

    /// The number of this worker, allocated if it has none. `None` when all numbers of workers are used up.
    pub fn add(&mut self, name: &WorkerName) -> Option<Slot> {
        if let Some(slot) = self.of(name) {
            return Some(slot);
        }
        let slot = self.take()?;
        self.allocated.insert(name.clone(), slot);
        Some(slot)
    }

    /// Allocates as many numbers for processes of single sessions of this worker.
    pub fn add_for_sessions(&mut self, name: &WorkerName, count: u16) {
        let added: Vec<_> = (0..count).map_while(|_| self.take()).collect();
        self.of_sessions.entry(name.clone()).or_default().extend(added);
    }

    /// The numbers for processes of single sessions of this worker.
    pub fn of_sessions(&self, name: &WorkerName) -> &[Slot] {
        self.of_sessions.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn take(&mut self) -> Option<Slot> {
        let slot = Some(Slot(self.next)).filter(|slot| *slot < Slot::FIRST_HELPER)?;
        self.next += 1;
        Some(slot)
    }

    pub fn of(&self, name: &WorkerName) -> Option<Slot> {
        self.allocated.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WorkerName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_worker_keeps_its_number_whatever_is_added() {
        let mut slots = Slots::allocate(&[name("b"), name("c")]);
        let before = slots.of(&name("b"));
        assert_ne!(slots.add(&name("a")), before);
        assert_eq!(slots.add(&name("b")), before);
        assert_eq!(slots.of(&name("b")), before);
    }

    #[test]
    fn processes_of_sessions_have_numbers_of_their_own() {
        let mut slots = Slots::allocate(&[name("a"), name("b")]);
        slots.add_for_sessions(&name("a"), 2);
        assert_eq!(slots.of_sessions(&name("a")), [Slot(2), Slot(3)]);
        assert!(slots.of_sessions(&name("b")).is_empty());
        assert_eq!(slots.add(&name("c")), Some(Slot(4)));
    }

    #[test]
    fn numbers_of_helpers_are_never_allocated_to_workers() {
        let mut slots = Slots { next: Slot::FIRST_HELPER.0, ..Slots::default() };
        assert_eq!(slots.add(&name("a")), None);
        slots.add_for_sessions(&name("a"), 2);
        assert!(slots.of_sessions(&name("a")).is_empty());
    }
}
