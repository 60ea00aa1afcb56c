//! Looking for what is left of a run, from outside.
//!
//! Three ways, none of which asks the daemon: processes that were seen below it while it ran,
//! processes that carry its run's mark, and processes with the test's tag in their command line.

use std::collections::BTreeMap;

use mcpd_common::ids::{Pid, RunTag};
use mcpd_common::os::process::{self, Process, StartTime};
use nix::sys::signal::{Signal, kill};

/// What is known of a run's processes.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    tag: String,
    run: Option<RunTag>,
    seen: BTreeMap<Pid, StartTime>,
}

impl Trace {
    /// Of the run whose fixture workers carry this tag.
    pub fn new(tag: &str) -> Self {
        Self { tag: tag.to_owned(), ..Self::default() }
    }

    /// Learns the run's mark.
    pub fn set_run(&mut self, run: RunTag) {
        self.run = Some(run);
    }

    /// Remembers what is below the daemon now.
    pub fn remember(&mut self, daemon: Pid) {
        self.seen.extend(process::tree(daemon).into_iter().map(|found| (found.pid, found.start)));
    }

    /// How many processes were seen below the daemon.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// Everything of the run that still exists, zombies included.
    pub fn remaining(&self) -> Vec<Process> {
        process::all().into_iter().filter(|found| self.is_ours(found)).collect()
    }

    /// The same, as sentences.
    pub fn remaining_described(&self) -> Vec<String> {
        let describe = |found: Process| match process::describe(found.pid) {
            Some(info) => format!("{info}, state {}, parent {}", found.state, found.ppid),
            None => format!("{} (pid {}), state {}", found.name, found.pid, found.state),
        };
        self.remaining().into_iter().map(describe).collect()
    }

    fn is_ours(&self, found: &Process) -> bool {
        let was_seen = self.seen.get(&found.pid) == Some(&found.start);
        was_seen || self.is_marked(found) || self.is_tagged(found)
    }

    fn is_marked(&self, found: &Process) -> bool {
        self.run.is_some_and(|run| process::mark(found.pid).is_some_and(|mark| mark.run == run))
    }

    /// Only fixture workers are tagged; who merely names the tag (a shell, a grep) is not ours.
    fn is_tagged(&self, found: &Process) -> bool {
        !self.tag.is_empty()
            && found.name.starts_with("fixture_worker")
            && process::describe(found.pid).is_some_and(|info| info.command.contains(&self.tag))
    }

    /// Ends whatever is left, as often as it takes; for failed tests.
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
