//! The resources of a process, which must not grow.

use std::fmt;
use std::fs;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;

/// The resources at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    descriptors: usize,
    threads: usize,
    /// Children of the daemon: workers, and orphans that were reparented to it.
    children: usize,
    /// All descendants.
    descendants: usize,
    /// Proportional set size (PSS) in KiB.
    memory: u64,
}

/// Growth of the heap in KiB that is not a leak: free memory is not returned completely.
const HEAP: u64 = 3 * 1024;

impl Level {
    /// The current resources of a process.
    pub fn of(pid: Pid) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            children: process::best_effort::children(pid).len(),
            descendants: process::best_effort::tree(pid).len(),
            memory: memory(pid),
        }
    }

    /// Describes a resource that has grown since `before`; `None` if none has.
    pub fn exceeds(&self, before: &Self) -> Option<String> {
        let counts = [
            ("descriptors", before.descriptors, self.descriptors),
            ("threads", before.threads, self.threads),
            ("children", before.children, self.children),
            ("descendants", before.descendants, self.descendants),
        ];
        let grown = counts.iter().find(|(_, before, now)| now > before);
        let grown = grown.map(|(what, before, now)| format!("{before} {what} became {now}"));
        let allowed = before.memory + before.memory / 4 + HEAP;
        let memory = (self.memory > allowed).then(|| {
            format!("{} KiB of memory became {}, allowed are {allowed}", before.memory, self.memory)
        });
        grown.or(memory)
    }

    /// Whether everything except the memory is equal.
    pub fn is_same_but_memory(&self, other: &Self) -> bool {
        Self { memory: 0, ..*self } == Self { memory: 0, ..*other }
    }
}

fn memory(pid: Pid) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, children, descendants, memory } = self;
        write!(
            f,
            "{descriptors} descriptors, {threads} threads, {children} children, {descendants} descendants, {memory} KiB"
        )
    }
}
