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

    /// Adds new children while the daemon lives: orphans of preexisting children, because orphans of the run are
    /// reparented to the daemon then. When it is killed, they are reparented as soon as its first thread exits, and it counts
    /// as living until its last one does (`find_alive_thread` in exit.c): so none with the mark of the run is added.
    pub fn note_while(
        &mut self,
        daemon: Pid,
        run: impl FnOnce() -> RunTag,
        daemon_lives: impl FnOnce() -> bool,
    ) {
        if !self.may_grow() {
            return;
        }
        let run = run();
        // A child that can't be read now is recognized by `includes`: it has no mark of this run.
        let mut children = children().best_effort();
        children.retain(|child| child.pid != daemon && !may_be_of(run, child.pid));
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

    /// The children that do not belong to the run and exist, for the crash record. One of them may have become a child only
    /// when the daemon died.
    pub fn leftovers(&self, run: RunTag) -> Vec<LeftoverProcess> {
        let mut existing = children().best_effort();
        existing.retain(|child| self.includes(child, run).unwrap_or(false));
        existing.sort_by_key(|child| child.pid);
        existing.iter().map(leftover).collect()
    }
}

/// Also if its mark can't be read.
fn may_be_of(run: RunTag, pid: Pid) -> bool {
    process::mark(pid).map_or(true, |mark| mark.is_some_and(|mark| mark.run == run))
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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use mcpd_common::ids::{Mark, Slot};
    use mcpd_common::os::child::{self, Signal, SpawnPlan};
    use mcpd_common::os::this_process;

    use super::*;

    /// R-CONT-5: a process of the run that is reparented while its daemon dies is not taken for a preexisting one.
    #[test]
    fn a_process_of_the_run_is_never_preexisting() {
        let run = RunTag(7);
        let mut older = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("sleep(1)");
        let mut preexisting = PreexistingChildren::children_of_this_process().expect("listed");
        let marked = child::spawn(SpawnPlan {
            program: "sleep".into(),
            args: vec!["60".into()],
            directory: "/".into(),
            env: std::env::vars_os().collect(),
            input: None,
            output: None,
            errors: None,
            mark: Mark { run, slot: Slot(0) },
            open_files: this_process::raise_open_files(),
            cgroup: None,
        });
        let marked = marked.expect("started").pid();
        preexisting.note_while(Pid::current(), || run, || true);
        let is_included = |pid: Pid| {
            let process = process::read(pid).expect("readable").expect("it runs");
            preexisting.includes(&process, run).expect("readable")
        };
        let older_pid = Pid::new(older.id().cast_signed()).expect("positive");
        assert!(is_included(older_pid) && !is_included(marked));
        let _ = child::signal_child(marked, Signal::Kill);
        let _ = child::reap(marked);
        older.kill().expect("unreaped");
        older.wait().expect("a child");
    }
}
