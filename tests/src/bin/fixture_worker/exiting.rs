//! The reaction to `SIGTERM`, and ways to exit.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::getppid;

use crate::options::Options;
use crate::raw;

/// Sets up the reaction to `SIGTERM` that the options select. Has to be called before there are threads, because they
/// inherit the signal mask.
pub fn set_up_sigterm(options: &Options) {
    if options.ignore_term {
        raw::ignore(Signal::SIGTERM);
        return;
    }
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    let has_default = options.term_exit.is_none() && options.slow_exit.is_zero() && !options.leader_exits;
    if has_default {
        // It may be blocked: a leader that waits for it has it blocked, and its worker inherits that.
        let _ = set.thread_unblock();
        return;
    }
    if set.thread_block().is_err() {
        return;
    }
    let delay = options.slow_exit;
    let code = options.term_exit.unwrap_or(0);
    small_thread(move || {
        let _ = set.wait();
        thread::sleep(delay);
        exit(code);
    });
}

/// Exits the process; may be called by any thread.
#[expect(clippy::exit, reason = "threads of this program decide when it ends")]
pub fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}

/// Exits the process with status 1 after this time.
pub fn crash_after(delay: Duration) {
    small_thread(move || {
        thread::sleep(delay);
        exit(1);
    });
}

/// Sends `SIGTERM` to the leader that started this worker.
pub fn end_parent() {
    let _ = kill(getppid(), Signal::SIGTERM);
}

/// Starts a thread with a small stack, because benchmarks run 500 of these programs.
pub fn small_thread(work: impl FnOnce() + Send + 'static) {
    // If the thread can't be started, the test fails at its own limit, with a better message than a panic here.
    let _ = thread::Builder::new().stack_size(64 * 1024).spawn(work);
}
