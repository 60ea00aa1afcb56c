//! What hostile workers do to themselves and to each other.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getpid, setgid, setgroups, setpgid, setsid, setuid};

use super::{leave_parent, settle, sleep};
use crate::exiting::exit;
use crate::raw::{self, Side, split};

/// Limit of forking and moving, so that a failed test does not keep the machine busy.
const BUSY_LIMIT: Duration = Duration::from_secs(20);
/// How long a process of a chain lives.
const LIFETIME_IN_CHAIN: Duration = Duration::from_millis(1);
/// Interval between two changes of group.
const MOVE_INTERVAL: Duration = Duration::from_millis(2);
const NOBODY: u32 = 65_534;

/// Forks a successor and exits, about twenty times as fast as the daemon lists processes. Faster chains
/// would take the whole machine.
pub fn fork_on() {
    let end = Instant::now() + BUSY_LIMIT;
    while Instant::now() < end {
        thread::sleep(LIFETIME_IN_CHAIN);
        match split() {
            Ok(Side::Child) => settle(),
            Ok(Side::Parent) => exit(0),
            // The machine has no room for more processes at the moment.
            Err(_) => thread::sleep(MOVE_INTERVAL),
        }
    }
    exit(0)
}

/// Groups of its own and its parent's in turn; then a successor in another session.
pub fn wander() {
    let end = Instant::now() + BUSY_LIMIT;
    while Instant::now() < end {
        for _ in 0..20 {
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            thread::sleep(MOVE_INTERVAL);
            let _ = setpgid(Pid::from_raw(0), nix::unistd::getsid(None).unwrap_or_else(|_| getpid()));
            thread::sleep(MOVE_INTERVAL);
        }
        if leave_parent().is_err() {
            exit(1);
        }
        // A leader of a session can't change its group; its child can.
        match split() {
            Ok(Side::Child) => settle(),
            Ok(Side::Parent) | Err(_) => exit(0),
        }
    }
}

/// Both are children of the same parent; the tracer never waits.
pub fn trace_a_sibling() {
    let traced = match raw::split_named() {
        Ok(Some(traced)) => traced,
        Ok(None) => {
            settle();
            sleep()
        }
        Err(_) => exit(1),
    };
    let _ = split().map(|side| {
        if let Side::Child = side {
            settle();
            let _ = ptrace::seize(traced, ptrace::Options::empty());
            sleep();
        }
    });
}

/// Changes this process to the system user `nobody` (uid 65534), in a session of its own. Needs root.
pub fn become_nobody() {
    let _ = setsid();
    let became = setgroups(&[]).and_then(|()| setgid(Gid::from_raw(NOBODY)));
    if became.and_then(|()| setuid(Uid::from_raw(NOBODY))).is_err() {
        exit(1);
    }
}

/// Two children, in sessions of their own: one with the exit signal `SIGUSR1`, one with none.
pub fn use_odd_exit_signals() -> io::Result<()> {
    for signal in [Signal::SIGUSR1 as i32, 0] {
        if let Side::Child = raw::split_with_exit_signal(signal)? {
            settle();
            let _ = setsid();
            sleep();
        }
    }
    Ok(())
}

/// A subreaper with an adopted orphan.
pub fn take_in_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = split().map(|side| {
        if let Side::Child = side {
            let _ = leave_parent();
            sleep();
        }
    });
}

/// The init of a pid namespace, with an orphan there. Needs root.
pub fn found_a_namespace() {
    if unshare(CloneFlags::CLONE_NEWPID).is_err() {
        exit(1);
    }
    let _ = split().map(|side| {
        if let Side::Child = side {
            settle();
            let _ = setsid();
            let _ = split().map(|side| {
                if let Side::Child = side {
                    let _ = leave_parent();
                    sleep();
                }
            });
            sleep();
        }
    });
}

/// Nothing is left of what it was started with, in a session of its own.
pub fn overwrite() {
    if leave_parent().is_err() || raw::overwrite_command_line_and_environment().is_err() {
        exit(1);
    }
}

/// What becomes of standard output and error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// It is still the worker's.
    Kept,
    /// `/dev/null` takes its place.
    GivenUp,
}

/// Another session, no mark, and as another program no environment.
pub fn escape(output: Output) {
    raw::lower_mark();
    // Before it becomes an orphan: the daemon never forgets a process that it saw in the worker's session.
    if setsid().is_err() || leave_parent().is_err() {
        exit(1);
    }
    if output == Output::GivenUp
        && let Ok(null) = File::options().read(true).write(true).open("/dev/null")
    {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    // The alarm outlives the exec.
    raw::become_sleep(super::LIFETIME.as_secs())
}
