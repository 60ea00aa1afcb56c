//! This process: its descriptors, threads, limits and terminal.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::child::Signal;
use super::system;

/// The limit of open files. `u64::MAX` means that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFileLimit {
    /// What holds now.
    pub soft: u64,
    /// How far the soft one may be raised.
    pub hard: u64,
}

/// Open descriptors, each with what it leads to.
pub fn descriptors() -> Vec<(i32, String)> {
    system::descriptors()
}

/// Threads, each with its name.
pub fn threads() -> Vec<(i32, String)> {
    system::threads()
}

/// Raises the soft limit of open files as far as it goes, and returns what it was, for the workers.
/// Where it can't be raised it stays: fewer files are no reason not to start.
pub fn raise_open_files() -> OpenFileLimit {
    let original = getrlimit(Resource::Nofile);
    let wanted = original.maximum.map_or(system::MOST_OPEN_FILES, |hard| hard.min(system::MOST_OPEN_FILES));
    if original.current.is_some_and(|soft| soft < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: original.maximum };
        let _stays_as_it_is = setrlimit(Resource::Nofile, raised);
    }
    OpenFileLimit { soft: original.current.unwrap_or(u64::MAX), hard: original.maximum.unwrap_or(u64::MAX) }
}

/// Whether this signal is ignored. Ask before any handler is installed: who started us
/// (nohup(1), a shell's `&`) may have wished it so.
#[expect(unsafe_code, reason = "sigaction(2) has no safe wrapper that only asks")]
pub fn ignored_at_start(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the old one, into memory of its type.
    let asked = unsafe { libc::sigaction(signal.number(), std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, which is a valid value of this plain structure, and perhaps overwritten.
    let action = unsafe { action.assume_init() };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Whether there is a terminal whose hang-up would reach us.
pub fn has_controlling_terminal() -> bool {
    OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/tty").is_ok()
}
