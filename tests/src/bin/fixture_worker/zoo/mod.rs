//! The hostile zoo: children that do what nobody expects of them.
//!
//! Each is forked by the worker while it has a single thread, ignores `SIGTERM` and `SIGHUP`, and is
//! ended by an alarm after [`LIFETIME`] should a test go wrong. What they do to themselves is in
//! `deeds.rs`.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::{alarm, setsid};

use crate::leaving::exit;
use crate::options::LIFETIME;
use crate::raw::{self, Side, ignore, split};

mod deeds;
mod passing;

/// What a child of the worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Animal {
    /// Chains of processes, each of which lives only as long as it takes to fork the next one.
    Forks,
    /// Waits as after vfork(2) for a child that has stopped itself.
    Vforks,
    /// Goes from group to group and from session to session.
    Wanders,
    /// Traces its sibling, and never looks at it.
    Traces,
    /// The worker itself: its first thread ends, the others go on.
    LosesItsLeader,
    /// Can't be looked into.
    Undumpable,
    /// Is another user.
    OtherUser,
    /// Tells its end by another signal, or by none.
    OddSignals,
    /// Takes in its own orphans.
    OwnSubreaper,
    /// Is the first of a pid namespace, with children there.
    OwnNamespace,
    /// Has neither command line nor environment any more.
    Overwritten,
    /// Has no mark any more, nor session, parent and environment.
    Unmarked,
    /// That, and it gave up its output too, as daemons do.
    Silent,
    /// Holds the worker's listening socket, sent to it over a Unix socket.
    Listens,
    /// Two thousand that do nothing.
    Thousands,
}

const ALL: [(&str, Animal); 15] = [
    ("forks", Animal::Forks),
    ("vforks", Animal::Vforks),
    ("wanders", Animal::Wanders),
    ("traces", Animal::Traces),
    ("loses-its-leader", Animal::LosesItsLeader),
    ("undumpable", Animal::Undumpable),
    ("other-user", Animal::OtherUser),
    ("odd-signals", Animal::OddSignals),
    ("own-subreaper", Animal::OwnSubreaper),
    ("own-namespace", Animal::OwnNamespace),
    ("overwritten", Animal::Overwritten),
    ("unmarked", Animal::Unmarked),
    ("silent", Animal::Silent),
    ("listens", Animal::Listens),
    ("thousands", Animal::Thousands),
];

/// Chains of those that fork.
const CHAINS: usize = 4;
/// Those that do nothing.
const THOUSANDS: usize = 2000;

impl Animal {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|(known, _)| *known == name).map(|(_, animal)| *animal)
    }

    /// Starts it. For a process of one thread.
    pub fn release(self) -> io::Result<()> {
        match self {
            Self::Forks => (0..CHAINS).try_for_each(|_| child(deeds::fork_on)),
            Self::Vforks => child(raw::wait_for_a_stopped_child),
            Self::Wanders => child(deeds::wander),
            Self::Traces => child(deeds::trace_a_sibling),
            // Done when there are threads.
            Self::LosesItsLeader => Ok(()),
            Self::Undumpable => child(raw::become_undumpable),
            Self::OtherUser => child(deeds::become_nobody),
            Self::OddSignals => deeds::tell_oddly(),
            Self::OwnSubreaper => child(deeds::take_in_orphans),
            Self::OwnNamespace => child(deeds::found_a_namespace),
            Self::Overwritten => child(deeds::overwrite),
            Self::Unmarked => child(|| deeds::escape(deeds::Output::Kept)),
            Self::Silent => child(|| deeds::escape(deeds::Output::GivenUp)),
            Self::Listens => passing::prepare(),
            Self::Thousands => (0..THOUSANDS).try_for_each(|_| child(|| {})),
        }
    }
}

/// Forks a child that does something and then sleeps.
fn child(deed: impl FnOnce()) -> io::Result<()> {
    if let Side::Child = split()? {
        settle();
        deed();
        sleep();
    }
    Ok(())
}

/// What every child does first: an alarm for the worst case, and deaf to what is polite.
fn settle() {
    alarm::set(u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX));
    ignore(Signal::SIGTERM);
    ignore(Signal::SIGHUP);
}

fn sleep() -> ! {
    thread::sleep(LIFETIME);
    exit(0)
}

/// Forks a child that leaves its parent, which ends: the child is an orphan in a session of its own.
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
pub fn listening(animals: &[Animal], socket: BorrowedFd<'_>) -> io::Result<()> {
    match PASSAGE.get().filter(|_| animals.contains(&Animal::Listens)) {
        Some(passage) => passing::send(passage, socket),
        None => Ok(()),
    }
}

/// Everything is up: the first thread of the worker may end now.
pub fn up(
    animals: &[Animal],
    serve: impl FnOnce() -> std::process::ExitCode + Send + 'static,
) -> std::process::ExitCode {
    if !animals.contains(&Animal::LosesItsLeader) {
        return serve();
    }
    thread::spawn(move || {
        serve();
        exit(0)
    });
    raw::end_this_thread()
}
