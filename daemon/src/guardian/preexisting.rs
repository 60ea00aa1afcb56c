//! Processes that are below the guardian and none of mcpd's: children from before it was mcpd
//! (`sleep 9 & exec mcpd`), and what these leave behind.

use std::collections::HashSet;

use mcpd_common::crash::LeftoverProcess;
use mcpd_common::ids::{Pid, RunTag};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{CannotLook, Listing};

/// Those that are never touched.
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

    /// While the daemon lives everything that it leaves behind becomes its own child; so what comes
    /// to us has come from others.
    pub fn note_while(&mut self, daemon: Pid, daemon_lives: impl FnOnce() -> bool) {
        if !self.may_grow() {
            return;
        }
        // One that is missed here is recognised by its lack of a mark.
        let mut children = children().best_effort();
        children.retain(|child| child.pid != daemon);
        if daemon_lives() {
            self.note(&children);
        }
    }

    /// Only who has such children gets more of them; and pid 1, who gets everybody's.
    fn may_grow(&self) -> bool {
        !self.known.is_empty() || Pid::current().get() == 1
    }

    /// Whether there is nobody to be preexisting.
    pub fn is_empty(&self) -> bool {
        !self.may_grow()
    }

    /// Whether this child of ours is to be left alone. One that came in the moment of the daemon's end
    /// is the run's by its mark, if others could have left it to us as well.
    ///
    /// # Errors
    /// When its mark can't be read.
    pub fn covers(&self, child: &Process, run: RunTag) -> Result<bool, CannotLook> {
        if self.known.contains(&(child.pid, child.start)) {
            return Ok(true);
        }
        Ok(self.may_grow() && process::mark(child.pid)?.is_none_or(|mark| mark.run != run))
    }

    /// Those that are there still, for the record.
    pub fn leftovers(&self) -> Vec<LeftoverProcess> {
        let mut there: Vec<_> = children()
            .best_effort()
            .into_iter()
            .filter(|it| self.known.contains(&(it.pid, it.start)))
            .collect();
        there.sort_by_key(|process| process.pid);
        let leftover =
            |it: &Process| LeftoverProcess { pid: it.pid, command: process::command(it), worker: None };
        there.iter().map(leftover).collect()
    }
}

fn children() -> Listing<Process> {
    let mut children = Listing::default();
    for pid in children.take(process::children(Pid::current())) {
        let process = children.record(process::read(pid));
        children.extend(process);
    }
    children
}
