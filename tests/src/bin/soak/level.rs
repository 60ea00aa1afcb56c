//! The resources that a process holds: they must not grow.

use std::fmt;
use std::fs;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;

/// The resources at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    descriptors: usize,
    threads: usize,
    /// The daemon's own: its workers, and orphans that came to it.
    children: usize,
    /// Everything below it.
    descendants: usize,
    /// Proportional (PSS), KiB.
    memory: u64,
}

/// KiB by which a heap may grow without a leak: it is never released to the last page.
const HEAP: u64 = 3 * 1024;

impl Level {
    /// Of this process now.
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

    /// What is more than it was, if something is.
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

    /// Whether all but the memory is the same.
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
