//! Those who left the tree, where the daemon is no subreaper (R-CONT-7): what a worker leaves behind
//! becomes a child of init there, and has to be recognised among all processes of the machine.
//!
//! A process is a family's if it was seen to be one before (pid and start time), if it is below one, was
//! born of one (which macOS remembers), shares a session with one (a session has no members but those who
//! were born into it), carries the run's mark in its environment, or holds the pipe that the worker writes
//! to, which it can only have got from the worker. Who gave up all of these at once between two looks is
//! lost: best effort, which is why this backend claims no proof.

use std::collections::{BTreeMap, HashMap, HashSet};

use mcpd_common::ids::{Pid, RunTag, Slot};
use mcpd_common::known_processes::{KnownProcess, KnownProcessesFile};
use mcpd_common::os::process::{self, PipeId, Process, StartTime};
use mcpd_common::os::{CannotLook, Listing};
use mcpd_common::run_file::ProcessId;

use super::snapshot::Family;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Tree and sessions only, so that those who leave later are known: costs what reading all
    /// processes costs.
    Quick,
    /// At environments and descriptors, too.
    Full,
}

/// Close looks at a stranger.
const ENOUGH: u8 = 3;

/// What is remembered between two looks.
pub(super) struct Attribution {
    run: RunTag,
    seen: HashMap<(Pid, StartTime), Slot>,
    /// How often a stranger was looked at closely. It never becomes one of ours, but who is becoming
    /// another program shows no environment for a moment.
    strangers: HashMap<(Pid, StartTime), u8>,
    pipes: BTreeMap<Slot, PipeId>,
    /// The numbers that leaders were born with, and those that whoever the last look saw was born with:
    /// a child that nobody saw yet was born of one of them.
    leaders: BTreeMap<Slot, u64>,
    born: HashMap<u64, Slot>,
    /// For whoever cleans up after us.
    known_file: KnownProcessesFile,
}

/// A process and whose it is; `None`: of this run, but of no family that is still there.
pub(super) type AttributedProcess = (Process, Option<Slot>);

impl Attribution {
    pub fn new(run: RunTag, known_file: KnownProcessesFile) -> Self {
        Self {
            run,
            seen: HashMap::new(),
            strangers: HashMap::new(),
            pipes: BTreeMap::new(),
            leaders: BTreeMap::new(),
            born: HashMap::new(),
            known_file,
        }
    }

    /// A leader was started that writes into this pipe. All that came of the one before is gone.
    pub fn born(&mut self, slot: Slot, leader: Option<&Process>, pipe: Option<PipeId>) {
        self.pipes.remove(&slot);
        self.pipes.extend(pipe.map(|pipe| (slot, pipe)));
        self.leaders.remove(&slot);
        self.leaders.extend(leader.and_then(|leader| leader.birth).map(|birth| (slot, birth.own)));
        self.born.retain(|_, known| *known != slot);
    }

    /// Everything of the run but the leaders, `inherited` and what is below those. `found` is told of
    /// each at once: one that keeps forking would be gone by the end of the look.
    pub fn look(
        &mut self,
        families: &BTreeMap<Slot, Family>,
        inherited: &HashSet<Pid>,
        scan: Scan,
        mut found: impl FnMut(&Process, Option<Slot>),
    ) -> Listing<AttributedProcess> {
        let leaders: HashMap<Pid, Slot> =
            families.iter().map(|(slot, family)| (family.leader, *slot)).collect();
        let spared = spared(inherited);
        let mut owners: HashMap<Pid, Option<Slot>> =
            leaders.iter().map(|(leader, slot)| (*leader, Some(*slot))).collect();
        let mut listing = Listing::default();
        let mut all = vec![];
        // The youngest first, as far as pids tell: one that keeps forking is gone soon.
        let mut pids = listing.record(process::pids());
        pids.sort_by_key(|pid| std::cmp::Reverse(*pid));
        for pid in pids {
            let process = listing.record(process::read(pid));
            let Some(process) = process.filter(|process| process.state != 'Z') else { continue };
            if !spared.contains(&pid) && !leaders.contains_key(&pid) {
                if let Some(slot) = listing.record(self.whose(&process, &leaders, &owners, scan)) {
                    owners.insert(pid, slot);
                    found(&process, slot);
                }
                all.push(process);
            }
        }
        complete(&all, &mut owners, found);
        // What an incomplete scan did not find may still be there.
        if listing.is_complete() {
            let there: HashSet<_> = all.iter().map(|one| (one.pid, one.start)).collect();
            self.strangers.retain(|key, _| there.contains(key));
            self.seen.clear();
            self.born.clear();
        }
        let owned: Vec<AttributedProcess> =
            all.into_iter().filter_map(|one| owners.get(&one.pid).map(|slot| (one, *slot))).collect();
        let births: Vec<_> =
            owned.iter().filter_map(|(one, slot)| Some((one.birth?.own, (*slot)?))).collect();
        self.born.extend(births);
        let known = owned.iter().filter_map(|(one, slot)| Some(((one.pid, one.start), (*slot)?)));
        self.seen.extend(known);
        self.note(families);
        listing.extend(owned);
        listing
    }

    fn note(&mut self, families: &BTreeMap<Slot, Family>) {
        let leaders = families.iter().map(|(slot, family)| ((family.leader, family.start), *slot));
        let all = self.seen.iter().map(|(process, slot)| (*process, *slot)).chain(leaders);
        let member = |((pid, start), slot)| KnownProcess { process: ProcessId { pid, start }, slot };
        self.known_file.note(all.map(member).collect());
    }

    fn whose(
        &mut self,
        process: &Process,
        leaders: &HashMap<Pid, Slot>,
        owners: &HashMap<Pid, Option<Slot>>,
        scan: Scan,
    ) -> Result<Option<Option<Slot>>, CannotLook> {
        let leads = |id: i32| leaders.get(&Pid::new(id)?).copied();
        // Leaders are unreaped, so their numbers are still theirs.
        let cheap = self.seen.get(&(process.pid, process.start)).copied();
        let cheap = cheap.or_else(|| leads(process.session)).or_else(|| leads(process.pgid));
        let cheap = cheap.or_else(|| self.born_of(process.birth?.parent));
        if cheap.is_some() {
            return Ok(Some(cheap));
        }
        if let Some(owner) = Pid::new(process.ppid).and_then(|parent| owners.get(&parent)) {
            return Ok(Some(*owner));
        }
        let key = (process.pid, process.start);
        if scan == Scan::Quick || self.strangers.get(&key).is_some_and(|looks| *looks >= ENOUGH) {
            return Ok(None);
        }
        let mark = process::mark(process.pid)?.filter(|mark| mark.run == self.run);
        if let Some(mark) = mark {
            return Ok(Some(Some(mark.slot).filter(|slot| leaders.values().any(|known| known == slot))));
        }
        let holder = self.holder(process.pid)?;
        if holder.is_none() {
            *self.strangers.entry(key).or_default() += 1;
        }
        Ok(holder)
    }

    fn born_of(&self, parent: u64) -> Option<Slot> {
        let leader = self.leaders.iter().find(|(_, leader)| **leader == parent).map(|(slot, _)| *slot);
        leader.or_else(|| self.born.get(&parent).copied())
    }

    fn holder(&self, pid: Pid) -> Result<Option<Option<Slot>>, CannotLook> {
        if self.pipes.is_empty() {
            return Ok(None);
        }
        let held = process::pipes(pid)?;
        Ok(self.pipes.iter().find(|(_, pipe)| held.contains(pipe)).map(|(slot, _)| Some(*slot)))
    }
}

/// This process, those above it, and what it had before it was mcpd.
fn spared(inherited: &HashSet<Pid>) -> HashSet<Pid> {
    // No ancestor carries the mark of this run, so one that can't be read now is not taken for ours.
    let above = |pid: &Pid| Pid::new(process::best_effort::read(*pid)?.ppid);
    let ourselves = std::iter::successors(Some(Pid::current()), above).take(64);
    ourselves.chain(inherited.iter().copied()).collect()
}

/// Adds who is below somebody's process, or in a session with one, until nobody comes any more.
pub fn complete(
    all: &[Process],
    owners: &mut HashMap<Pid, Option<Slot>>,
    mut found: impl FnMut(&Process, Option<Slot>),
) {
    loop {
        let sessions: HashMap<i32, Option<Slot>> =
            all.iter().filter_map(|one| Some((one.session, *owners.get(&one.pid)?))).collect();
        let mut added = false;
        for one in all {
            let parent = || owners.get(&Pid::new(one.ppid)?).copied();
            let owner = parent().or_else(|| sessions.get(&one.session).copied());
            if let Some(owner) = owner.filter(|_| !owners.contains_key(&one.pid)) {
                owners.insert(one.pid, owner);
                found(one, owner);
                added = true;
            }
        }
        if !added {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use mcpd_common::os::process::Birth;

    use super::*;

    fn process(pid: i32, ppid: i32, session: i32) -> Process {
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

    /// R-CONT-7: who gave up parent, session, mark and output is known by whom it was born of.
    #[test]
    fn a_birth_tells_whose_it_is_when_nothing_else_does() {
        let with = |process: Process, own, parent| Process { birth: Some(Birth { own, parent }), ..process };
        let directory = tempfile::tempdir().expect("a temporary directory");
        let known_file = KnownProcessesFile::new(directory.path().join("members.json"), RunTag(1));
        let mut elsewhere = Attribution::new(RunTag(1), known_file);
        elsewhere.born(Slot(2), Some(&with(process(30, 1, 30), 100, 7)), None);
        let mut whose = |process| elsewhere.whose(&process, &HashMap::new(), &HashMap::new(), Scan::Quick);
        assert_eq!(whose(with(process(40, 1, 40), 101, 100)), Ok(Some(Some(Slot(2)))));
        assert_eq!(whose(with(process(41, 1, 41), 102, 101)), Ok(None), "its parent was never seen");
        assert_eq!(whose(process(42, 1, 42)), Ok(None));
        elsewhere.born(Slot(2), Some(&with(process(50, 1, 50), 200, 7)), None);
        let of_the_last_one = with(process(43, 1, 43), 103, 100);
        assert_eq!(
            elsewhere.whose(&of_the_last_one, &HashMap::new(), &HashMap::new(), Scan::Quick),
            Ok(None)
        );
    }

    /// R-CONT-7: a session and a parent lead to a family, through as many steps as it takes; strangers
    /// stay strangers.
    #[test]
    fn the_rest_of_a_family_is_found_through_sessions_and_parents() {
        // 20 leads the family and left 30 behind, whose session-mate 31 has the child 40 elsewhere.
        let all = [
            process(40, 31, 40),
            process(31, 1, 30),
            process(30, 1, 30),
            process(50, 1, 50),
            process(51, 50, 50),
        ];
        let mut owners = HashMap::from([(Pid::new(30).expect("positive"), Some(Slot(2)))]);
        let mut told = vec![];
        complete(&all, &mut owners, |one, slot| told.push((one.pid.get(), slot)));
        told.sort();
        assert_eq!(told, [(31, Some(Slot(2))), (40, Some(Slot(2)))]);
    }
}
