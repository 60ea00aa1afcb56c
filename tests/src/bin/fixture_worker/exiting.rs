//! What a request to exit, or `SIGTERM`, leads to.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::getppid;

use crate::options::Options;
use crate::raw;

/// Makes `SIGTERM` do what was asked for; by default it kills. To be called before there are
/// threads, which inherit the mask.
pub fn arrange_signals(options: &Options) {
    if options.ignore_term {
        raw::ignore(Signal::SIGTERM);
        return;
    }
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    let by_default = options.term_exit.is_none() && options.slow_exit.is_zero() && !options.leader_exits;
    if by_default {
        // A leader that waits for it has it blocked, and its worker inherits that.
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

/// Ends the whole process from whichever thread.
#[expect(clippy::exit, reason = "threads of this program decide when it ends")]
pub fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}

/// Ends the process with status 1 after this time.
pub fn crash_after(delay: Duration) {
    small_thread(move || {
        thread::sleep(delay);
        exit(1);
    });
}

/// `SIGTERM` to the leader that started this worker.
pub fn end_parent() {
    let _ = kill(getppid(), Signal::SIGTERM);
}

/// A thread with a small stack: 500 of these programs run at once.
pub fn small_thread(work: impl FnOnce() + Send + 'static) {
    // Without the thread a test fails by its own bound, which says more than a panic here.
    let _ = thread::Builder::new().stack_size(64 * 1024).spawn(work);
}
