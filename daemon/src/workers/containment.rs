//! Which process belongs to whom, and ending all of them: the real [`Processes`].
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
//! start time was compared with the census, so a reused pid is never hit.

use std::collections::{BTreeMap, HashMap, HashSet};

use mcpd_common::ids::{Mark, Pgid, Pid, RunTag, Slot};
use mcpd_common::os::child::{self, Delivery, Handle, Proof, Signal, SpawnPlan};
use mcpd_common::os::own::OpenFileLimit;
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{Backend, backend};
use mcpd_common::outcome::ExitStatus;

use super::processes::{Census, Change, Order, Processes, Started};

/// A leader and what is known of it.
struct Family {
    leader: Pid,
    start: StartTime,
    exit: Option<ExitStatus>,
}

impl Family {
    fn group(&self) -> Pgid {
        Pgid::led_by(self.leader)
    }
}

/// As often a census is taken anew at once because somebody ended meanwhile; a process that keeps
/// forking must not keep us from everything else.
const LOOKS: usize = 3;

/// A census of orphans, and whose each is.
struct Orphans {
    living: Vec<(Process, Option<Slot>)>,
    reaped: usize,
}

impl Orphans {
    /// Whether nobody can have been missed.
    fn are_all(&self) -> bool {
        self.reaped == 0
    }
}

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
}

impl Children {
    /// No children yet. `open_files` is the limit that workers get back.
    pub fn new(run: RunTag, open_files: OpenFileLimit) -> Self {
        let inherited = process::children(Pid::current()).into_iter().collect();
        Self { run, open_files, families: BTreeMap::new(), orphans: HashMap::new(), inherited }
    }

    /// The daemon's own children, leaders and orphans alike.
    fn children(&self) -> Vec<Pid> {
        let mut children = process::children(Pid::current());
        children.retain(|pid| !self.inherited.contains(pid));
        children
    }

    /// The daemon's own children that lead no family.
    fn orphans(&self) -> Vec<Pid> {
        let leaders: HashSet<_> = self.families.values().map(|family| family.leader).collect();
        let mut children = self.children();
        children.retain(|pid| !leaders.contains(pid));
        children
    }

    /// Everything below the daemon that is ours.
    fn all(&self) -> Vec<Process> {
        let below = |pid| process::read(pid).into_iter().chain(process::tree(pid));
        self.children().into_iter().flat_map(below).collect()
    }

    /// Reaps orphans that ended, and learns whose the others are.
    fn tend_orphans(&mut self) -> Vec<(Process, Option<Slot>)> {
        self.look_at_orphans().living
    }

    /// A census that says for certain of whom nobody is left, if there is one. The list of a moment in
    /// which somebody ended does not show whom he left behind, who became our child only then.
    fn settled_orphans(&mut self) -> Orphans {
        let mut seen = self.look_at_orphans();
        for _ in 0..LOOKS {
            if seen.are_all() || !self.a_family_seems_gone(&seen) {
                break;
            }
            seen = self.look_at_orphans();
        }
        seen
    }

    fn a_family_seems_gone(&self, orphans: &Orphans) -> bool {
        let mut ended = self.families.iter().filter(|(_, family)| family.exit.is_some());
        ended.any(|(slot, _)| self.descendants_of(*slot, &orphans.living).is_empty())
    }

    fn look_at_orphans(&mut self) -> Orphans {
        let mut known = HashMap::new();
        let (mut living, mut reaped) = (vec![], 0);
        for pid in self.orphans() {
            if child::reap(pid).is_some() {
                reaped += 1;
                continue;
            }
            let Some(orphan) = process::read(pid) else { continue };
            let key = (pid, orphan.start);
            let slot = self.orphans.get(&key).copied().flatten().or_else(|| self.attribute(&orphan));
            known.insert(key, slot);
            living.push((orphan, slot));
        }
        self.orphans = known;
        Orphans { living, reaped }
    }

    fn attribute(&self, orphan: &Process) -> Option<Slot> {
        let marked = process::mark(orphan.pid).filter(|mark| mark.run == self.run).map(|mark| mark.slot);
        marked.filter(|slot| self.families.contains_key(slot)).or_else(|| {
            let ids = [orphan.session, orphan.pgid];
            let family = |(_, family): &(&Slot, &Family)| ids.contains(&family.leader.get());
            self.families.iter().find(family).map(|(slot, _)| *slot)
        })
    }

    /// Everything of a family but its leader, parents first.
    fn descendants_of(&self, slot: Slot, orphans: &[(Process, Option<Slot>)]) -> Vec<Process> {
        let Some(family) = self.families.get(&slot) else {
            return vec![];
        };
        let mut all = match family.exit {
            Some(_) => vec![],
            None => process::tree(family.leader),
        };
        for (orphan, _) in orphans.iter().filter(|(_, owner)| *owner == Some(slot)) {
            all.push(orphan.clone());
            all.extend(process::tree(orphan.pid));
        }
        all
    }

    fn note_exits(&mut self) -> Vec<Slot> {
        let mut exited = vec![];
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
        outside.filter_map(Handle::open).collect()
    }
}

impl Processes for Children {
    fn spawn(&mut self, order: Order) -> Result<Started, String> {
        if let Some(leader) = self.families.get(&order.slot).map(|family| family.leader) {
            let left = self.left_of(order.slot);
            let named = left.first().map_or_else(|| format!("pid {leader}"), ToString::to_string);
            return Err(format!("its last process is not gone: {named}"));
        }
        let program = order.program.display().to_string();
        let plan = SpawnPlan {
            program: order.program,
            args: order.args,
            directory: order.directory,
            env: order.env,
            input: None,
            output: order.output,
            mark: Mark { run: self.run, slot: order.slot },
            open_files: self.open_files,
        };
        let pid = child::spawn(plan).map_err(|error| format!("can't start {program}: {error}"))?;
        // Readable for certain: an unreaped child keeps its entry.
        let start = process::read(pid).map_or(StartTime(0), |process| process.start);
        self.families.insert(order.slot, Family { leader: pid, start, exit: None });
        Ok(Started { pid, start })
    }

    fn collect(&mut self) -> Vec<Change> {
        let exited = self.note_exits();
        let mut changes = vec![];
        if !self.families.values().any(|family| family.exit.is_some()) {
            self.tend_orphans();
            return changes;
        }
        let orphans = self.settled_orphans();
        let ended: Vec<_> =
            self.families.iter().filter_map(|(slot, family)| Some((*slot, family.exit?))).collect();
        for (slot, exit) in ended {
            let rest = self.descendants_of(slot, &orphans.living);
            if exited.contains(&slot) {
                let remaining = rest.iter().filter_map(|process| process::describe(process.pid)).collect();
                changes.push(Change::LeaderExited { slot, exit, remaining });
            }
            if rest.is_empty() && orphans.are_all() && self.reap_leader(slot) {
                changes.push(Change::Gone { slot });
            }
        }
        changes
    }

    fn terminate(&mut self, slot: Slot) {
        let orphans = self.tend_orphans();
        let others = self.outside_the_group(slot, &self.descendants_of(slot, &orphans));
        // SIGCONT second: a stopped process takes the pending SIGTERM when it goes on.
        for signal in [Signal::Term, Signal::Cont] {
            let _ = self.signal_group(slot, signal);
            for process in &others {
                let _ = process.signal(signal);
            }
        }
    }

    fn kill(&mut self, slot: Slot) -> usize {
        let orphans = self.tend_orphans();
        let members = self.descendants_of(slot, &orphans);
        let _ = self.signal_group(slot, Signal::Kill);
        let others = self.outside_the_group(slot, &members);
        for process in &others {
            let _ = process.signal(Signal::Kill);
        }
        members.len()
    }

    fn kill_all(&mut self) -> usize {
        for slot in self.families.keys().copied().collect::<Vec<_>>() {
            let _ = self.signal_group(slot, Signal::Kill);
        }
        let mut living = self.all();
        living.retain(|process| process.state != 'Z');
        for process in living.iter().filter_map(Handle::open) {
            let _ = process.signal(Signal::Kill);
        }
        // Counted anew: somebody who ended meanwhile may have left a child that was not listed.
        self.tend_orphans();
        self.all().len()
    }

    fn descendants(&mut self) -> Vec<(Pid, u32)> {
        let orphans = self.tend_orphans();
        let count = |slot| u32::try_from(self.descendants_of(slot, &orphans).len()).unwrap_or(u32::MAX);
        self.families.iter().map(|(slot, family)| (family.leader, count(*slot))).collect()
    }

    fn left(&mut self) -> Census {
        let left = self.all();
        left.iter().filter_map(|process| process::describe(process.pid)).collect()
    }

    fn prove(&mut self) -> Option<&'static str> {
        // What it reaps here was nobody's: every family is gone by then, or the answer is no.
        let proof = child::prove_no_children().proof;
        (backend() == Backend::Linux && proof == Proof::NoChildren).then_some(child::PROOF)
    }
}

impl Children {
    /// Everything that is left of a slot, the leader last.
    fn left_of(&mut self, slot: Slot) -> Census {
        let orphans = self.tend_orphans();
        let mut left = self.descendants_of(slot, &orphans);
        left.extend(self.families.get(&slot).and_then(|family| process::read(family.leader)));
        left.iter().filter_map(|process| process::describe(process.pid)).collect()
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
        }
        reaped
    }
}
