//! Finds the processes of a run from outside.
//!
//! Three ways, none of which asks the daemon: processes that were seen below it while it ran,
//! processes that carry its run's mark, and processes with the test's tag in their command line.

use std::collections::BTreeMap;
use std::fs;

use mcpd_common::ids::{Pid, RunTag};
use mcpd_common::os::process::{self, Process, StartTime};
use mcpd_common::os::{Backend, backend};
use nix::sys::signal::{Signal, kill};

/// What is known of a run's processes.
#[derive(Clone, Debug)]
pub struct Trace {
    tag: String,
    run: Option<RunTag>,
    seen: BTreeMap<Pid, StartTime>,
}

impl Trace {
    /// Of the run whose fixture workers carry this tag.
    pub fn new(tag: &str) -> Self {
        // Many command lines contain an empty argument.
        assert!(!tag.is_empty(), "a tag tells one run from all others");
        Self { tag: tag.to_owned(), run: None, seen: BTreeMap::new() }
    }

    /// Of no run at all.
    pub fn of_no_run() -> Self {
        Self::new("no run has this tag")
    }

    /// Learns the run's mark.
    pub fn set_run(&mut self, run: RunTag) {
        self.run = Some(run);
    }

    /// Remembers the daemon and what is below it now.
    pub fn remember(&mut self, daemon: Pid) {
        let all = process::best_effort::tree(daemon).into_iter().chain(process::best_effort::read(daemon));
        self.seen.extend(all.map(|found| (found.pid, found.start)));
    }

    /// Everything of the run that still exists, zombies included.
    ///
    /// Each process is judged the moment it is found: one that keeps forking would be gone, and
    /// its successor not yet listed, if all were listed first.
    pub fn remaining(&self) -> Vec<Process> {
        pids().filter(|pid| self.is_ours(*pid)).filter_map(process::best_effort::read).collect()
    }

    /// The same, as sentences. Without a subreaper orphans are init's, which reaps them in its own time:
    /// those zombies are not the daemon's to end.
    pub fn remaining_described(&self) -> Vec<String> {
        let describe = |found: Process| match process::describe(found.pid) {
            Some(info) => format!("{info}, state {}, parent {}", found.state, found.ppid),
            None => format!("{} (pid {}), state {}", found.name, found.pid, found.state),
        };
        let portable = backend() == Backend::Portable;
        let me = Pid::current().get();
        let is_inits = |found: &Process| portable && found.state == 'Z' && [1, me].contains(&found.ppid);
        self.remaining().into_iter().filter(|found| !is_inits(found)).map(describe).collect()
    }

    fn is_ours(&self, pid: Pid) -> bool {
        self.is_tagged(pid) || self.is_marked(pid) || self.was_seen(pid)
    }

    /// Only fixture workers are tagged; another process that names the tag (a shell, a grep) is not ours.
    fn is_tagged(&self, pid: Pid) -> bool {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"fixture_worker"))
            && words.any(|word| word == self.tag.as_bytes())
    }

    fn is_marked(&self, pid: Pid) -> bool {
        self.run.is_some_and(|run| process::best_effort::mark(pid).is_some_and(|mark| mark.run == run))
    }

    fn was_seen(&self, pid: Pid) -> bool {
        let start = self.seen.get(&pid);
        start.is_some_and(|start| process::best_effort::read(pid).is_some_and(|found| found.start == *start))
    }

    /// Kills all that is left, repeatedly, since processes may fork meanwhile; for failed tests.
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

/// The processes of the machine, listed lazily.
fn pids() -> Box<dyn Iterator<Item = Pid>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().and_then(Pid::new);
    match fs::read_dir("/proc") {
        Ok(entries) => Box::new(entries.flatten().filter_map(number)),
        Err(_) => Box::new(process::best_effort::all().into_iter().map(|found| found.pid)),
    }
}
