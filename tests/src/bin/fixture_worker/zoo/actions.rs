//! What the hostile workers do.

use std::fs::File;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, getpid, setgid, setgroups, setpgid, setsid, setuid};

use super::{leave_parent, set_alarm_and_ignore_signals, sleep};
use crate::exiting::exit;
use crate::raw::{self, ForkSide, fork};

/// Time limit for forking and changing groups, so that a failed test does not keep the machine busy.
const BUSY_LIMIT: Duration = Duration::from_secs(20);
/// Lifetime of a process of a chain.
const LIFETIME_IN_CHAIN: Duration = Duration::from_millis(1);
/// Interval between two changes of group.
const MOVE_INTERVAL: Duration = Duration::from_millis(2);
const NOBODY: u32 = 65_534;

/// Forks a successor and exits, about twenty times as fast as the daemon lists processes. Faster chains would need all of
/// the machine's CPU time.
pub fn keep_forking() {
    let end = Instant::now() + BUSY_LIMIT;
    while Instant::now() < end {
        thread::sleep(LIFETIME_IN_CHAIN);
        match fork() {
            Ok(ForkSide::Child) => set_alarm_and_ignore_signals(),
            Ok(ForkSide::Parent) => exit(0),
            // The limit of processes is reached at the moment.
            Err(_) => thread::sleep(MOVE_INTERVAL),
        }
    }
    exit(0)
}

/// Alternates between its own group and its parent's; then continues in another session.
pub fn change_groups() {
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
        match fork() {
            Ok(ForkSide::Child) => set_alarm_and_ignore_signals(),
            Ok(ForkSide::Parent) | Err(_) => exit(0),
        }
    }
}

/// Forks two children; the second one traces the first one and never waits for it.
pub fn trace_a_sibling() {
    let traced = match raw::fork_with_pid() {
        Ok(Some(traced)) => traced,
        Ok(None) => {
            set_alarm_and_ignore_signals();
            sleep()
        }
        Err(_) => exit(1),
    };
    let _ = fork().map(|side| {
        if let ForkSide::Child = side {
            set_alarm_and_ignore_signals();
            let _ = ptrace::seize(traced, ptrace::Options::empty());
            sleep();
        }
    });
}

/// Changes this process to the system user `nobody` (uid 65534), in a session of its own. Needs root.
pub fn become_nobody() {
    let _ = setsid();
    let changed = setgroups(&[]).and_then(|()| setgid(Gid::from_raw(NOBODY)));
    if changed.and_then(|()| setuid(Uid::from_raw(NOBODY))).is_err() {
        exit(1);
    }
}

/// Forks two children in their own sessions: one with the exit signal `SIGUSR1`, one with none.
pub fn use_odd_exit_signals() -> io::Result<()> {
    for signal in [Signal::SIGUSR1 as i32, 0] {
        if let ForkSide::Child = raw::fork_with_exit_signal(signal)? {
            set_alarm_and_ignore_signals();
            let _ = setsid();
            sleep();
        }
    }
    Ok(())
}

/// Becomes a subreaper, to which an orphan is reparented.
pub fn adopt_an_orphan() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = fork().map(|side| {
        if let ForkSide::Child = side {
            let _ = leave_parent();
            sleep();
        }
    });
}

/// Forks the init of a pid namespace, with an orphan in it. Needs root.
pub fn make_a_pid_namespace() {
    if unshare(CloneFlags::CLONE_NEWPID).is_err() {
        exit(1);
    }
    let _ = fork().map(|side| {
        if let ForkSide::Child = side {
            set_alarm_and_ignore_signals();
            let _ = setsid();
            let _ = fork().map(|side| {
                if let ForkSide::Child = side {
                    let _ = leave_parent();
                    sleep();
                }
            });
            sleep();
        }
    });
}

/// Overwrites its command line and environment, in its own session.
pub fn overwrite() {
    if leave_parent().is_err() || raw::overwrite_command_line_and_environment().is_err() {
        exit(1);
    }
}

/// What to do with standard output and error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Keep those of the worker.
    Kept,
    /// Replace them by `/dev/null`.
    Closed,
}

/// Escapes to another session, removes its mark and executes another program without an environment.
pub fn escape(output: Output) {
    raw::remove_mark();
    // In its own session before it becomes an orphan, because the daemon records processes in the worker's session.
    if setsid().is_err() || leave_parent().is_err() {
        exit(1);
    }
    if output == Output::Closed
        && let Ok(null) = File::options().read(true).write(true).open("/dev/null")
    {
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    // The alarm is kept over the exec.
    raw::exec_sleep(super::LIFETIME.as_secs())
}
