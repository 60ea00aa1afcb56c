//! Hostile workers: children that escape from their parent with the means of the kernel.
//!
//! Each is forked by the worker while that has a single thread, ignores `SIGTERM` and `SIGHUP`, and is ended by an alarm
//! after [`LIFETIME`] in case a test fails. What they do is in `actions.rs`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::{alarm, setsid};

use crate::exiting::exit;
use crate::options::LIFETIME;
use crate::raw::{self, ForkSide, fork, ignore};

mod actions;
mod socket_passing;

/// What a child of the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// Chains of processes; each forks the next one and exits.
    Forks,
    /// Waits like vfork(2) for a child that has stopped itself.
    Vforks,
    /// Changes its process group and session all the time.
    Wanders,
    /// Traces its sibling and never waits for it.
    Traces,
    /// The first thread of the worker itself exits, the others continue.
    LosesItsLeader,
    /// Not dumpable: its files in `/proc` belong to root.
    Undumpable,
    /// Runs as another user.
    OtherUser,
    /// Its exit signal is not `SIGCHLD`.
    OddSignals,
    /// Is a subreaper.
    OwnSubreaper,
    /// Is the init of a pid namespace, with children there.
    OwnNamespace,
    /// Has overwritten its command line and environment.
    Overwritten,
    /// Has removed its mark and environment, and has another session and parent.
    Unmarked,
    /// Like `Unmarked`, and has closed its output, as daemons do.
    Silent,
    /// Holds the worker's listening socket, which was sent to it over a Unix socket.
    Listens,
    /// Two thousand sleeping children.
    Thousands,
}

const ALL: [(&str, Hostile); 15] = [
    ("forks", Hostile::Forks),
    ("vforks", Hostile::Vforks),
    ("wanders", Hostile::Wanders),
    ("traces", Hostile::Traces),
    ("loses-its-leader", Hostile::LosesItsLeader),
    ("undumpable", Hostile::Undumpable),
    ("other-user", Hostile::OtherUser),
    ("odd-signals", Hostile::OddSignals),
    ("own-subreaper", Hostile::OwnSubreaper),
    ("own-namespace", Hostile::OwnNamespace),
    ("overwritten", Hostile::Overwritten),
    ("unmarked", Hostile::Unmarked),
    ("silent", Hostile::Silent),
    ("listens", Hostile::Listens),
    ("thousands", Hostile::Thousands),
];

/// Number of chains of [`Hostile::Forks`].
const CHAINS: usize = 4;
/// Number of children of [`Hostile::Thousands`].
const THOUSANDS: usize = 2000;

impl Hostile {
    /// The hostile worker of this name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(known, _)| *known == name).map(|(_, hostile)| *hostile)
    }

    /// Starts the processes. Only for a process with a single thread.
    pub fn start(self) -> io::Result<()> {
        match self {
            Self::Forks => (0..CHAINS).try_for_each(|_| child(actions::keep_forking)),
            Self::Vforks => child(raw::wait_for_a_stopped_child),
            Self::Wanders => child(actions::change_groups),
            Self::Traces => child(actions::trace_a_sibling),
            // Done in `serve`, when there are other threads.
            Self::LosesItsLeader => Ok(()),
            Self::Undumpable => child(raw::become_undumpable),
            Self::OtherUser => child(actions::become_nobody),
            Self::OddSignals => actions::use_odd_exit_signals(),
            Self::OwnSubreaper => child(actions::adopt_an_orphan),
            Self::OwnNamespace => child(actions::make_a_pid_namespace),
            Self::Overwritten => child(actions::overwrite),
            Self::Unmarked => child(|| actions::escape(actions::Output::Kept)),
            Self::Silent => child(|| actions::escape(actions::Output::Closed)),
            Self::Listens => socket_passing::prepare(),
            Self::Thousands => (0..THOUSANDS).try_for_each(|_| child(|| {})),
        }
    }
}

/// Forks a child that performs an action and then sleeps.
fn child(action: impl FnOnce()) -> io::Result<()> {
    if let ForkSide::Child = fork()? {
        set_alarm_and_ignore_signals();
        action();
        sleep();
    }
    Ok(())
}

/// The first step of each child; the alarm ends it in case a test fails.
fn set_alarm_and_ignore_signals() {
    alarm::set(u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX));
    ignore(Signal::SIGTERM);
    ignore(Signal::SIGHUP);
}

fn sleep() -> ! {
    thread::sleep(LIFETIME);
    exit(0)
}

/// Forks and exits. The child continues as an orphan in its own session.
fn leave_parent() -> nix::Result<()> {
    if let ForkSide::Parent = fork()? {
        exit(0);
    }
    set_alarm_and_ignore_signals();
    setsid().map(drop)
}

/// The Unix socket to the child of [`Hostile::Listens`].
static CHILD_SOCKET: OnceLock<OwnedFd> = OnceLock::new();

/// Sends the listening socket to the child of [`Hostile::Listens`], if there is one.
pub fn send_listener(hostiles: &[Hostile], socket: BorrowedFd<'_>) -> io::Result<()> {
    match CHILD_SOCKET.get().filter(|_| hostiles.contains(&Hostile::Listens)) {
        Some(peer) => socket_passing::send(peer, socket),
        None => Ok(()),
    }
}

/// Serves. With [`Hostile::LosesItsLeader`], the first thread of the worker exits.
pub fn serve(
    hostiles: &[Hostile],
    serve: impl FnOnce() -> std::process::ExitCode + Send + 'static,
) -> std::process::ExitCode {
    if !hostiles.contains(&Hostile::LosesItsLeader) {
        return serve();
    }
    thread::spawn(move || {
        serve();
        exit(0)
    });
    raw::end_this_thread()
}
