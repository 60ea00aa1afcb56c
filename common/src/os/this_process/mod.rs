//! This process: its descriptors, threads, limits, memory and terminal.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::signal::Signal;
use super::system;

mod memory;

pub use memory::give_back_memory;

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

/// Undoes [`raise_open_files`], for a program that is to begin as this one did.
pub fn restore_open_files(original: OpenFileLimit) {
    let limit = |value| (value != u64::MAX).then_some(value);
    let original = Rlimit { current: limit(original.soft), maximum: limit(original.hard) };
    let _stays_as_it_is = setrlimit(Resource::Nofile, original);
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    /// R-VER-4: what is open is told by number and by what it leads to; looking opens nothing.
    #[test]
    fn an_open_file_is_told_and_a_closed_one_is_not() {
        let file = std::fs::File::open("/dev/null").expect("/dev/null");
        let number = file.as_raw_fd();
        let told = descriptors();
        assert!(told.iter().any(|(n, target)| *n == number && target == "/dev/null"), "{told:?}");
        assert!(told.iter().all(|(_, target)| !target.ends_with("/fd")), "{told:?}");
        assert!(told.is_sorted());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_told_by_its_name() {
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
    fn the_limit_is_raised_and_the_old_one_told() {
        let first = raise_open_files();
        let second = raise_open_files();
        assert!(first.soft <= second.soft && second.soft <= second.hard);
        assert!(second.soft == second.hard || second.soft >= system::MOST_OPEN_FILES);
    }

    #[test]
    fn nothing_that_we_ask_about_is_ignored_by_accident() {
        assert!(!ignored_at_start(Signal::Kill), "can't be");
    }
}
