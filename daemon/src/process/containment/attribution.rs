//! Detached processes, where the daemon is no subreaper (R-CONT-7): an orphan is reparented to init there,
//! and must be attributed to its family among all processes of the machine.
//!
//! A process belongs to a family if
//!
//! - an earlier scan attributed it (compared by pid and start time),
//! - its parent does,
//! - a process of the family forked it (macOS keeps the id of that process),
//! - its session does, because only descendants can be in the session of a family,
//! - it carries the mark of the run in its environment, or
//! - it holds the pipe of the worker's output, which only descendants can inherit.
//!
//! A process that changes all of these between two scans is lost. So this is best effort, and the portable
//! backend claims no proof.

use std::collections::{BTreeMap, HashMap, HashSet};

use mcpd_common::ids::{Pid, RunTag, Slot};
use mcpd_common::known_processes::{KnownProcess, KnownProcessesFile};
use mcpd_common::os::process::{self, PipeId, Process, StartTime};
use mcpd_common::os::{CannotLook, Listing};
use mcpd_common::run_file::ProcessId;

use super::Family;

/// How much of each process is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanDepth {
    /// Parents and sessions only. Repeated often, so that processes are attributed before they detach.
    Quick,
    /// Environments and descriptors as well.
    Full,
}

/// A foreign process is not fully scanned more often than this. It never becomes one of ours; several scans
/// are needed because a process has no environment for a moment during exec(2).
const MAX_FULL_SCANS: u8 = 3;

/// The limit of ancestors of this process that are read.
const MAX_ANCESTORS: usize = 64;

/// The family of a process of this run; `None` if the family is gone or unknown.
pub(super) type Owner = Option<Slot>;

pub(super) type AttributedProcess = (Process, Owner);

type ProcessKey = (Pid, StartTime);

/// Attributes processes, and remembers what it needs for the next scan.
pub(super) struct Attribution {
    run: RunTag,
    /// The processes that were attributed by the last scan.
    attributed: HashMap<ProcessKey, Slot>,
    /// The number of full scans of each foreign process.
    foreign: HashMap<ProcessKey, u8>,
    /// The output pipes of the workers.
    pipes: BTreeMap<Slot, PipeId>,
    /// The birth ids of the leaders.
    leader_births: BTreeMap<Slot, u64>,
    /// The birth ids of the attributed processes.
    births: HashMap<u64, Slot>,
    /// Gets the attributed processes, for recovery after a crash.
    known_file: KnownProcessesFile,
}

/// The state of one scan.
struct Scan<'a> {
    depth: ScanDepth,
    leaders: &'a HashMap<Pid, Slot>,
    /// The processes that are attributed so far.
    owners: HashMap<Pid, Owner>,
}

impl Attribution {
    pub fn new(run: RunTag, known_file: KnownProcessesFile) -> Self {
        Self {
            run,
            attributed: HashMap::new(),
            foreign: HashMap::new(),
            pipes: BTreeMap::new(),
            leader_births: BTreeMap::new(),
            births: HashMap::new(),
            known_file,
        }
    }

    /// Adds a new leader and the pipe of its output. The last family of the slot is gone.
    pub fn add_leader(&mut self, slot: Slot, leader: Option<&Process>, pipe: Option<PipeId>) {
        self.pipes.remove(&slot);
        self.pipes.extend(pipe.map(|pipe| (slot, pipe)));
        self.leader_births.remove(&slot);
        self.leader_births.extend(leader.and_then(|leader| leader.birth).map(|birth| (slot, birth.own)));
        self.births.retain(|_, known| *known != slot);
    }

    /// All processes of the run except leaders, zombies, this process with its ancestors, and `inherited`.
    /// `found` gets each process at once: one that keeps forking could be gone at the end of the scan.
    pub fn scan(
        &mut self,
        families: &BTreeMap<Slot, Family>,
        inherited: &HashSet<Pid>,
        depth: ScanDepth,
        mut found: impl FnMut(&Process, Owner),
    ) -> Listing<AttributedProcess> {
        let leaders: HashMap<Pid, Slot> =
            families.iter().map(|(slot, family)| (family.leader, *slot)).collect();
        let owners = leaders.iter().map(|(leader, slot)| (*leader, Some(*slot))).collect();
        let mut scan = Scan { depth, leaders: &leaders, owners };
        let excluded = excluded(inherited);
        let mut listing = Listing::default();
        let mut all = vec![];
        let mut pids = listing.record(process::pids());
        // Usually the youngest first: the processes of one that keeps forking are gone soon.
        pids.sort_by_key(|pid| std::cmp::Reverse(*pid));
        for pid in pids {
            if excluded.contains(&pid) || leaders.contains_key(&pid) {
                continue;
            }
            let process = listing.record(process::read(pid));
            let Some(process) = process.filter(|process| process.state != 'Z') else { continue };
            if let Some(owner) = listing.record(self.owner_of(&process, &scan)) {
                scan.owners.insert(pid, owner);
                found(&process, owner);
            }
            all.push(process);
        }
        add_related(&all, &mut scan.owners, found);
        self.remember(&all, &scan.owners, listing.is_complete());
        self.write_known_processes(families);
        listing.extend(all.into_iter().filter_map(|process| {
            let owner = *scan.owners.get(&process.pid)?;
            Some((process, owner))
        }));
        listing
    }

    /// The owner of a process, from the cheapest criterion to the most expensive; `None`: a foreign process.
    fn owner_of(&mut self, process: &Process, scan: &Scan<'_>) -> Result<Option<Owner>, CannotLook> {
        if let Some(slot) = self.slot_by_ids(process, scan.leaders) {
            return Ok(Some(Some(slot)));
        }
        if let Some(owner) = Pid::new(process.ppid).and_then(|parent| scan.owners.get(&parent)) {
            return Ok(Some(*owner));
        }
        let key = (process.pid, process.start);
        let full_scans = self.foreign.get(&key).copied().unwrap_or(0);
        if scan.depth == ScanDepth::Quick || full_scans >= MAX_FULL_SCANS {
            return Ok(None);
        }
        if let Some(mark) = process::mark(process.pid)?.filter(|mark| mark.run == self.run) {
            let has_family = scan.leaders.values().any(|slot| *slot == mark.slot);
            return Ok(Some(has_family.then_some(mark.slot)));
        }
        let slot = self.slot_by_pipe(process.pid)?;
        if slot.is_none() {
            self.foreign.insert(key, full_scans + 1);
        }
        Ok(slot.map(Some))
    }

    fn slot_by_ids(&self, process: &Process, leaders: &HashMap<Pid, Slot>) -> Option<Slot> {
        // Leaders are unreaped, so the ids of their sessions and groups are not reused.
        let led_by = |id: i32| leaders.get(&Pid::new(id)?).copied();
        let attributed = self.attributed.get(&(process.pid, process.start)).copied();
        attributed
            .or_else(|| led_by(process.session))
            .or_else(|| led_by(process.pgid))
            .or_else(|| self.slot_by_birth(process.birth?.parent))
    }

    fn slot_by_birth(&self, parent: u64) -> Option<Slot> {
        let leader = self.leader_births.iter().find(|(_, leader)| **leader == parent).map(|(slot, _)| *slot);
        leader.or_else(|| self.births.get(&parent).copied())
    }

    fn slot_by_pipe(&self, pid: Pid) -> Result<Option<Slot>, CannotLook> {
        if self.pipes.is_empty() {
            return Ok(None);
        }
        let held = process::pipes(pid)?;
        Ok(self.pipes.iter().find(|(_, pipe)| held.contains(pipe)).map(|(slot, _)| *slot))
    }

    fn remember(&mut self, all: &[Process], owners: &HashMap<Pid, Owner>, is_complete: bool) {
        // A process that an incomplete scan did not find may exist, so nothing is forgotten then.
        if is_complete {
            let existing: HashSet<_> = all.iter().map(|process| (process.pid, process.start)).collect();
            self.foreign.retain(|key, _| existing.contains(key));
            self.attributed.clear();
            self.births.clear();
        }
        for process in all {
            if let Some(Some(slot)) = owners.get(&process.pid) {
                self.attributed.insert((process.pid, process.start), *slot);
                self.births.extend(process.birth.map(|birth| (birth.own, *slot)));
            }
        }
    }

    fn write_known_processes(&mut self, families: &BTreeMap<Slot, Family>) {
        let leaders = families.iter().map(|(slot, family)| ((family.leader, family.start), *slot));
        let attributed = self.attributed.iter().map(|(key, slot)| (*key, *slot));
        let known = attributed
            .chain(leaders)
            .map(|((pid, start), slot)| KnownProcess { process: ProcessId { pid, start }, slot });
        self.known_file.update(known.collect());
    }
}

/// This process, its ancestors, and the children that it had before it was mcpd.
fn excluded(inherited: &HashSet<Pid>) -> HashSet<Pid> {
    // No ancestor carries the mark of this run, so one that can't be read now is not attributed anyway.
    let parent = |pid: &Pid| Pid::new(process::best_effort::read(*pid)?.ppid);
    let ancestors = std::iter::successors(Some(Pid::current()), parent).take(MAX_ANCESTORS);
    ancestors.chain(inherited.iter().copied()).collect()
}

/// Adds children of owned processes, and members of their sessions, until there are no more.
pub fn add_related(
    all: &[Process],
    owners: &mut HashMap<Pid, Owner>,
    mut found: impl FnMut(&Process, Owner),
) {
    loop {
        let sessions: HashMap<i32, Owner> =
            all.iter().filter_map(|process| Some((process.session, *owners.get(&process.pid)?))).collect();
        let mut has_added = false;
        for process in all {
            if owners.contains_key(&process.pid) {
                continue;
            }
            let by_parent = Pid::new(process.ppid).and_then(|parent| owners.get(&parent));
            if let Some(owner) = by_parent.or_else(|| sessions.get(&process.session)).copied() {
                owners.insert(process.pid, owner);
                found(process, owner);
                has_added = true;
            }
        }
        if !has_added {
            return;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use mcpd_common::os::process::Birth;

    use super::*;

    pub fn process(pid: i32, ppid: i32, session: i32) -> Process {
        Process {
            pid: Pid::new(pid).expect("positive"),
            ppid,
            pgid: session,
            session,
            state: 'S',
            start: StartTime(1),
            name: "x".to_owned(),
            threads: 1,
            exit_signal: 17,
            birth: None,
        }
    }

    /// R-CONT-7: a process without parent, session, mark and output of its family is attributed by its birth.
    #[test]
    fn a_birth_id_attributes_a_process_when_nothing_else_does() {
        let with = |process: Process, own, parent| Process { birth: Some(Birth { own, parent }), ..process };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let known_file = KnownProcessesFile::new(directory.path().join("members.json"), RunTag(1));
        let mut attribution = Attribution::new(RunTag(1), known_file);
        let leaders = HashMap::new();
        let scan = Scan { depth: ScanDepth::Quick, leaders: &leaders, owners: HashMap::new() };
        attribution.add_leader(Slot(2), Some(&with(process(30, 1, 30), 100, 7)), None);
        let mut owner_of = |process| attribution.owner_of(&process, &scan);
        assert_eq!(owner_of(with(process(40, 1, 40), 101, 100)), Ok(Some(Some(Slot(2)))));
        assert_eq!(owner_of(with(process(41, 1, 41), 102, 101)), Ok(None), "its parent was never listed");
        assert_eq!(owner_of(process(42, 1, 42)), Ok(None));
        attribution.add_leader(Slot(2), Some(&with(process(50, 1, 50), 200, 7)), None);
        let of_the_last_family = with(process(43, 1, 43), 103, 100);
        assert_eq!(attribution.owner_of(&of_the_last_family, &scan), Ok(None));
    }

    /// R-CONT-7: sessions and parents lead to a family through any number of steps; foreign processes are not
    /// attributed.
    #[test]
    fn a_family_is_completed_through_sessions_and_parents() {
        // The session of 30 has the member 31, whose child 40 has a session of its own.
        let all = [
            process(40, 31, 40),
            process(31, 1, 30),
            process(30, 1, 30),
            process(50, 1, 50),
            process(51, 50, 50),
        ];
        let mut owners = HashMap::from([(Pid::new(30).expect("positive"), Some(Slot(2)))]);
        let mut found = vec![];
        add_related(&all, &mut owners, |process, owner| found.push((process.pid.get(), owner)));
        found.sort();
        assert_eq!(found, [(31, Some(Slot(2))), (40, Some(Slot(2)))]);
    }
}
