//! Descriptors, threads, limits, memory and terminal of this process.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::signal::Signal;
use super::system;

mod journal;
mod memory;
mod umask;

pub use journal::stderr_is_journal;
pub use memory::{give_back_memory, return_large_buffers};
pub(in crate::os) use umask::original_umask;
pub use umask::{restore_umask, restrict_umask};

/// The limits of open files (`RLIMIT_NOFILE`). `u64::MAX` means unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFileLimit {
    /// The limit in force.
    pub soft: u64,
    /// The limit to which the soft limit may be raised.
    pub hard: u64,
}

/// The effective user id.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether a process of this user may be at the other end of the control socket: this user's, or root's.
pub fn trusts(uid: u32) -> bool {
    uid == user() || uid == 0
}

/// Open descriptors, each with its target, sorted by number.
pub fn descriptors() -> Vec<(i32, String)> {
    system::descriptors()
}

/// Threads, each with its name, sorted by id.
pub fn threads() -> Vec<(i32, String)> {
    system::threads()
}

/// Raises the soft limit of open files as far as possible; returns the original limits, which the workers
/// get. A failure is ignored: fewer files are no reason not to start.
pub fn raise_open_files() -> OpenFileLimit {
    let original = getrlimit(Resource::Nofile);
    let wanted = original.maximum.map_or(system::MOST_OPEN_FILES, |hard| hard.min(system::MOST_OPEN_FILES));
    if original.current.is_some_and(|soft| soft < wanted) {
        let raised = Rlimit { current: Some(wanted), maximum: original.maximum };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    OpenFileLimit { soft: original.current.unwrap_or(u64::MAX), hard: original.maximum.unwrap_or(u64::MAX) }
}

/// The soft limit of open files; the largest number if there is none.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Undoes [`raise_open_files`], before another program is executed.
pub fn restore_open_files(original: OpenFileLimit) {
    let limit = |value| (value != u64::MAX).then_some(value);
    let original = Rlimit { current: limit(original.soft), maximum: limit(original.hard) };
    let _ = setrlimit(Resource::Nofile, original);
}

/// Whether this signal is ignored. To be called before handlers are installed: nohup(1) or a shell's `&` may
/// have set it to ignored.
#[expect(unsafe_code, reason = "sigaction(2) has no safe wrapper that only reads")]
pub fn ignored_at_start(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the old one, into memory of its type.
    let result = unsafe { libc::sigaction(signal.number(), std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed, which is a valid value of this plain structure, and perhaps overwritten.
    let action = unsafe { action.assume_init() };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Whether this process has a controlling terminal, whose hang-up would send `SIGHUP`.
pub fn has_controlling_terminal() -> bool {
    OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/tty").is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// R-VER-4: open descriptors are listed with number and target, without the descriptor of the scan.
    #[test]
    fn open_descriptors_are_listed() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        let number = file.as_raw_fd();
        let listed = descriptors();
        assert!(listed.iter().any(|(n, target)| *n == number && target == "/dev/null"), "{listed:?}");
        assert!(listed.iter().all(|(_, target)| !target.ends_with("/fd")), "{listed:?}");
        assert!(listed.is_sorted());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_are_listed_with_their_names() {
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let named = std::thread::Builder::new().name("listens".into());
        let thread = named.spawn(move || wait.recv()).expect("a thread");
        // It names itself when it first runs.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !threads().iter().any(|(_, name)| name == "listens") {
            assert!(std::time::Instant::now() < deadline, "{:?}", threads());
            std::thread::yield_now();
        }
        drop(end);
        assert!(thread.join().expect("no panic").is_err());
    }

    #[test]
    fn raising_the_limit_returns_the_old_one() {
        let first = raise_open_files();
        let second = raise_open_files();
        assert!(first.soft <= second.soft && second.soft <= second.hard);
        assert!(second.soft == second.hard || second.soft >= system::MOST_OPEN_FILES);
    }

    #[test]
    fn a_signal_that_cannot_be_ignored_is_not() {
        assert!(!ignored_at_start(Signal::Kill), "SIGKILL can't be ignored");
    }
}
