//! Finds the processes of a run from outside.
//!
//! In three ways, all without the daemon: processes that were its descendants while it ran, processes with the mark of its
//! run, and processes with the test's tag in their command line.

use std::collections::BTreeMap;
use std::fs;

use mcpd_common::ids::{Pid, RunTag};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{Backend, backend};
use nix::sys::signal::{Signal, kill};

/// How to find the processes of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    tag: String,
    run: Option<RunTag>,
    recorded: BTreeMap<Pid, StartTime>,
}

impl Trace {
    /// For the run whose fixture workers carry this tag.
    pub fn new(tag: &str) -> Self {
        // Many command lines contain an empty argument.
        assert!(!tag.is_empty(), "a tag identifies a run");
        Self { tag: tag.to_owned(), run: None, recorded: BTreeMap::new() }
    }

    /// Finds no process.
    pub fn of_no_run() -> Self {
        Self::new("no run has this tag")
    }

    /// Sets the tag of the run's mark.
    pub fn set_run(&mut self, run: RunTag) {
        self.run = Some(run);
    }

    /// Records the daemon and its current descendants.
    pub fn remember(&mut self, daemon: Pid) {
        let all = process::best_effort::tree(daemon).into_iter().chain(process::best_effort::read(daemon));
        self.recorded.extend(all.map(|found| (found.pid, found.start)));
    }

    /// All processes of the run that still exist, zombies included.
    ///
    /// Each process is checked as soon as it is found. If all were listed first, a process that keeps forking would be
    /// gone by then, and its successor would not be in the list.
    pub fn remaining(&self) -> Vec<Process> {
        pids().filter(|pid| self.is_ours(*pid)).filter_map(process::best_effort::read).collect()
    }

    /// Descriptions of [`Self::remaining`]. On the portable backend, zombies whose parent is init or its replacement are
    /// left out: the daemon can't reap them.
    pub fn remaining_described(&self) -> Vec<String> {
        let describe = |found: Process| match process::describe(found.pid) {
            Some(info) => format!("{info}, state {}, parent {}", found.state, found.ppid),
            None => format!("{} (pid {}), state {}", found.name, found.pid, found.state),
        };
        let portable = backend() == Backend::Portable;
        let me = Pid::current().get();
        let is_orphaned_zombie =
            |found: &Process| portable && found.state == 'Z' && [1, me].contains(&found.ppid);
        self.remaining().into_iter().filter(|found| !is_orphaned_zombie(found)).map(describe).collect()
    }

    fn is_ours(&self, pid: Pid) -> bool {
        self.is_tagged(pid) || self.is_marked(pid) || self.was_recorded(pid)
    }

    /// Only fixture workers count: a shell or a grep may have the tag in its command line, too.
    fn is_tagged(&self, pid: Pid) -> bool {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"fixture_worker"))
            && words.any(|word| word == self.tag.as_bytes())
    }

    fn is_marked(&self, pid: Pid) -> bool {
        self.run.is_some_and(|run| process::best_effort::mark(pid).is_some_and(|mark| mark.run == run))
    }

    fn was_recorded(&self, pid: Pid) -> bool {
        let start = self.recorded.get(&pid);
        start.is_some_and(|start| process::best_effort::read(pid).is_some_and(|found| found.start == *start))
    }

    /// Kills all remaining processes, repeatedly, because they may fork meanwhile; for failed tests.
    pub fn kill_remaining(&self) {
        for _ in 0..200 {
            let left = self.remaining();
            if left.iter().all(|found| found.state == 'Z') {
                return;
            }
            for found in left {
                let _ = kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGKILL);
            }
        }
    }
}

/// All processes of the machine, listed lazily.
fn pids() -> Box<dyn Iterator<Item = Pid>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().and_then(Pid::new);
    match fs::read_dir("/proc") {
        Ok(entries) => Box::new(entries.flatten().filter_map(number)),
        Err(_) => Box::new(process::best_effort::all().into_iter().map(|found| found.pid)),
    }
}
