//! Hostile workers: children that evade their parent by means that the kernel allows.
//!
//! Each is forked by the worker while it has a single thread, ignores `SIGTERM` and `SIGHUP`, and is
//! ended by an alarm after [`LIFETIME`] should a test go wrong. What they do to themselves is in
//! `actions.rs`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::{alarm, setsid};

use crate::exiting::exit;
use crate::options::LIFETIME;
use crate::raw::{self, Side, ignore, split};

mod actions;
mod passing;

/// What a child of the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostile {
    /// Chains of processes, each of which lives only as long as it takes to fork the next one.
    Forks,
    /// Waits as after vfork(2) for a child that has stopped itself.
    Vforks,
    /// Changes its process group and session all the time.
    Wanders,
    /// Traces its sibling, and never waits for it.
    Traces,
    /// The worker itself: its first thread ends, the others go on.
    LosesItsLeader,
    /// Not dumpable: its files in `/proc` belong to root.
    Undumpable,
    /// Runs as another user.
    OtherUser,
    /// Its exit signal is another one than `SIGCHLD`, or none.
    OddSignals,
    /// Is a subreaper.
    OwnSubreaper,
    /// Is the init of a pid namespace, with children there.
    OwnNamespace,
    /// Has overwritten its command line and environment.
    Overwritten,
    /// Has removed its mark and environment, and has another session and parent.
    Unmarked,
    /// Like `Unmarked`, and has closed its output too, as daemons do.
    Silent,
    /// Holds the worker's listening socket, sent to it over a Unix socket.
    Listens,
    /// Two thousand children that sleep.
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

/// Chains of [`Hostile::Forks`].
const CHAINS: usize = 4;
/// Children of [`Hostile::Thousands`].
const THOUSANDS: usize = 2000;

impl Hostile {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(known, _)| *known == name).map(|(_, hostile)| *hostile)
    }

    /// Starts it. For a process of one thread.
    pub fn release(self) -> io::Result<()> {
        match self {
            Self::Forks => (0..CHAINS).try_for_each(|_| child(actions::fork_on)),
            Self::Vforks => child(raw::wait_for_a_stopped_child),
            Self::Wanders => child(actions::wander),
            Self::Traces => child(actions::trace_a_sibling),
            // Done when there are threads.
            Self::LosesItsLeader => Ok(()),
            Self::Undumpable => child(raw::become_undumpable),
            Self::OtherUser => child(actions::become_nobody),
            Self::OddSignals => actions::use_odd_exit_signals(),
            Self::OwnSubreaper => child(actions::take_in_orphans),
            Self::OwnNamespace => child(actions::found_a_namespace),
            Self::Overwritten => child(actions::overwrite),
            Self::Unmarked => child(|| actions::escape(actions::Output::Kept)),
            Self::Silent => child(|| actions::escape(actions::Output::GivenUp)),
            Self::Listens => passing::prepare(),
            Self::Thousands => (0..THOUSANDS).try_for_each(|_| child(|| {})),
        }
    }
}

/// Forks a child that does this and then sleeps.
fn child(action: impl FnOnce()) -> io::Result<()> {
    if let Side::Child = split()? {
        settle();
        action();
        sleep();
    }
    Ok(())
}

/// What every child does first: it sets an alarm for a failed test and ignores `SIGTERM` and `SIGHUP`.
fn settle() {
    alarm::set(u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX));
    ignore(Signal::SIGTERM);
    ignore(Signal::SIGHUP);
}

fn sleep() -> ! {
    thread::sleep(LIFETIME);
    exit(0)
}

/// Forks and exits: the child is an orphan in a session of its own.
fn leave_parent() -> nix::Result<()> {
    if let Side::Parent = split()? {
        exit(0);
    }
    settle();
    setsid().map(drop)
}

/// Where the worker sends its socket to.
static PASSAGE: OnceLock<OwnedFd> = OnceLock::new();

/// The worker listens on this.
pub fn listening(hostiles: &[Hostile], socket: BorrowedFd<'_>) -> io::Result<()> {
    match PASSAGE.get().filter(|_| hostiles.contains(&Hostile::Listens)) {
        Some(passage) => passing::send(passage, socket),
        None => Ok(()),
    }
}

/// Serves; [`Hostile::LosesItsLeader`] ends the first thread of the worker.
pub fn up(
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
