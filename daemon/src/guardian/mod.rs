//! The guardian: the daemon's parent, which cleans up when the daemon can't (R-CONT-5).
//!
//! ```text
//!   mcpd ---- lock, shared page, socket pair ---- fork (a single thread)
//!    |                                             |
//!    | parent: "mcp-guardian"                      | child: the daemon
//!    |   watch            waits, forwards signals  |   link   publishes its hard deadline and its
//!    |   shutdown_timer   the hard deadline (pure) |          completion, notices the guardian's exit
//!    |   daemon_end       how it ended (pure)      |
//!    |   kill_and_reap    kills what is left       `- workers, which die with the daemon's thread
//!    `-  cleanup          socket, run file, record    or are reparented to the guardian
//! ```
//!
//! The guardian holds the lock, so the files that it removes belong to its own daemon. It is a subreaper, so
//! all orphans of the daemon are reparented to it. It has one thread and no runtime, and validates everything that
//! it reads from the page.

mod cleanup;
mod daemon_end;
mod kill_and_reap;
mod link;
mod page;
mod preexisting;
mod shutdown_timer;
mod watch;

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::ids::{Pid, RunId};
use mcpd_common::os::child::{self, Signal};
use mcpd_common::os::guardian::{self, BlockedSignals, ForkResult, ReceivedSignals};
use mcpd_common::paths::StateDir;

use crate::instance::Instance;
use crate::service_manager::ServiceManager;
pub use link::GuardianLink;
pub use page::Details;
use page::Page;
use preexisting::PreexistingChildren;
pub use watch::Guardian;

/// What guardian and daemon know from the start.
pub struct GuardianConfig {
    pub run: RunId,
    pub state: StateDir,
    pub socket: PathBuf,
    /// The total bound of a shutdown, counted from its request: a daemon that hangs
    /// can't publish it.
    pub bound: Duration,
    pub instance: Instance,
    pub service_manager: ServiceManager,
}

impl GuardianConfig {
    fn details(&self) -> Details {
        let socket = self.socket.clone();
        let state_dir = self.state.path().to_owned();
        Details { run: self.run, socket, state_dir, cgroups: None }
    }
}

/// Which side of the fork this process is.
pub enum ForkSide {
    /// The parent.
    Guardian(Guardian),
    /// The child.
    Daemon(GuardianLink, Instance),
}

/// Signals that the guardian forwards to the daemon.
const FORWARDED: [Signal; 6] =
    [Signal::Term, Signal::Int, Signal::Hup, Signal::Quit, Signal::Usr1, Signal::Usr2];

/// Signals that the guardian handles: systemd's watchdog signals the unit's main process.
const HANDLED: [Signal; 7] = {
    let [term, int, hup, quit, usr1, usr2] = FORWARDED;
    [term, int, hup, quit, usr1, usr2, Signal::Abort]
};

/// Signals that stay blocked until the daemon handles them.
const AWAITED: [Signal; 3] = [Signal::Term, Signal::Int, Signal::Hup];

/// Forks into guardian and daemon. Call it while the process has one thread.
///
/// # Errors
/// When memory, a process or a signal handler is not available; then nothing has been started.
pub fn fork(config: GuardianConfig) -> io::Result<ForkSide> {
    let prepared = Prepared::new(config)?;
    match guardian::fork()? {
        ForkResult::Parent { child } => Ok(ForkSide::Guardian(prepared.into_guardian(child))),
        ForkResult::Child { parent } => prepared.into_daemon(parent),
    }
}

/// What both sides of the fork get.
struct Prepared {
    config: GuardianConfig,
    page: Page,
    /// The guardian's end of the line, and the daemon's.
    line: (UnixStream, UnixStream),
    preexisting: PreexistingChildren,
    signals: BlockedSignals,
}

impl Prepared {
    fn new(config: GuardianConfig) -> io::Result<Self> {
        let page = Page::new()?;
        page.publish(&config.details())?;
        let line = UnixStream::pair()?;
        let preexisting = PreexistingChildren::children_of_this_process()?;
        // Before the child exists: its orphans are reparented to the guardian.
        child::become_subreaper()?;
        let signals = guardian::block_all_signals()?;
        Ok(Self { config, page, line, preexisting, signals })
    }

    fn into_guardian(self, daemon: Pid) -> Guardian {
        let Self { config, page, line: (line, _), preexisting, signals: blocked } = self;
        let signals = ReceivedSignals::listen(&HANDLED);
        blocked.restore_except(&[]);
        Guardian {
            config,
            daemon,
            page,
            line,
            signals,
            preexisting,
            is_shutdown_requested: false,
            has_watchdog_expired: false,
        }
    }

    fn into_daemon(self, guardian: Pid) -> io::Result<ForkSide> {
        let Self { config, page, line: (guardians_end, line), preexisting: _, signals: blocked } = self;
        // The guardian has the only other end: end of file means that the guardian exited.
        drop(guardians_end);
        blocked.restore_except(&AWAITED);
        guardian::die_with_parent(Signal::Term)?;
        Ok(ForkSide::Daemon(GuardianLink::new(page, line, guardian), config.instance))
    }
}
