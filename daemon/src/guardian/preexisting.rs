//! Children of the guardian that do not belong to mcpd: children that the process had before it was mcpd
//! (`sleep 9 & exec mcpd`), and orphans of these.

use std::collections::HashSet;

use mcpd_common::crash::LeftoverProcess;
use mcpd_common::ids::{Pid, RunTag};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{CannotLook, Listing};

/// Children that are never signalled.
pub struct PreexistingChildren {
    known: HashSet<(Pid, StartTime)>,
}

impl PreexistingChildren {
    /// The children that this process has now.
    ///
    /// # Errors
    /// When they can't be listed.
    pub fn children_of_this_process() -> Result<Self, CannotLook> {
        let mut preexisting = Self { known: HashSet::new() };
        preexisting.note(&children().complete()?);
        Ok(preexisting)
    }

    fn note(&mut self, children: &[Process]) {
        self.known.extend(children.iter().map(|child| (child.pid, child.start)));
    }

    /// Adds new children while the daemon lives. They are orphans of preexisting children, because orphans of
    /// the run are reparented to the daemon then.
    pub fn note_while(&mut self, daemon: Pid, daemon_lives: impl FnOnce() -> bool) {
        if !self.may_grow() {
            return;
        }
        // A child that can't be read now is recognized by `includes`: it has no mark of this run.
        let mut children = children().best_effort();
        children.retain(|child| child.pid != daemon);
        if daemon_lives() {
            self.note(&children);
        }
    }

    /// Whether children that are not of this run can appear: only orphans of preexisting children, and for
    /// pid 1 all orphans of the machine (or container).
    fn may_grow(&self) -> bool {
        !self.known.is_empty() || Pid::current().get() == 1
    }

    /// Whether all children belong to this run.
    pub fn is_empty(&self) -> bool {
        !self.may_grow()
    }

    /// Whether this child does not belong to the run. A child that was reparented after the exit of the daemon
    /// belongs to it if it has its mark.
    ///
    /// # Errors
    /// When its mark can't be read.
    pub fn includes(&self, child: &Process, run: RunTag) -> Result<bool, CannotLook> {
        if self.known.contains(&(child.pid, child.start)) {
            return Ok(true);
        }
        Ok(self.may_grow() && process::mark(child.pid)?.is_none_or(|mark| mark.run != run))
    }

    /// The preexisting children that exist, for the crash record.
    pub fn leftovers(&self) -> Vec<LeftoverProcess> {
        let mut existing = children().best_effort();
        existing.retain(|child| self.known.contains(&(child.pid, child.start)));
        existing.sort_by_key(|child| child.pid);
        existing.iter().map(leftover).collect()
    }
}

fn leftover(process: &Process) -> LeftoverProcess {
    LeftoverProcess { pid: process.pid, command: process::command(process), worker: None }
}

fn children() -> Listing<Process> {
    let mut children = Listing::default();
    for pid in children.take(process::children(Pid::current())) {
        let process = children.record(process::read(pid));
        children.extend(process);
    }
    children
}
