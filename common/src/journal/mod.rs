//! The journal: what `history` and `report` show (R-LOG-1).
//!
//! ```text
//! Journal::open -> Opened { journal, warning }     the daemon: one writer
//! Journal::open_read_only -> Journal               mcpctl: readers, at any time
//! record(&Record)  history(limit)  report(run)  sessions()  close()
//! ```
//!
//! It is memory for people. Nothing that the shutdown or the next start depends on is in
//! here (see [`crate::run_file`]), so that a damaged journal costs history, and clients their
//! sessions, and no more.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::ids::{Pgid, Pid, Port, RunId, WorkerName};
use crate::os::process::StartTime;
use crate::outcome::{ExitStatus, ShutdownReport};

mod open;
mod read;
mod write;

#[cfg(test)]
mod tests;

/// The `schema` of the history in JSON.
pub const HISTORY_SCHEMA: &str = "mcpd.history.v1";

/// How long entries are kept.
pub const KEPT_DAYS: i64 = 90;

/// How long a session that nobody uses is kept.
pub const SESSIONS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
}

/// A journal that was opened for writing.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// What had to be done to have one: a damaged or locked one was set aside.
    pub warning: Option<String>,
}

/// Something to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The daemon began.
    RunStarted(RunStarted),
    /// It began, as others know; what it said itself stays.
    RunKnown(RunStarted),
    /// A worker's process began.
    ProcessStarted(ProcessStarted),
    /// A worker's process ended.
    ProcessEnded(ProcessEnded),
    /// A worker is to be started again.
    Restarted(Restarted),
    /// The shutdown is over.
    Report(Box<ShutdownReport>),
    /// An MCP session began or changed.
    SessionKept(KeptSession),
    /// An MCP session ended.
    SessionEnded {
        /// Whose it was.
        worker: WorkerName,
        /// Its id, as the client knows it.
        id: String,
    },
}

/// An MCP session that outlives the daemon (R-CLIENT-3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSession {
    /// Whose it is.
    pub worker: WorkerName,
    /// Its id, as the client knows it.
    pub id: String,
    /// When a client used it, as far as that was noted.
    pub used_at: Timestamp,
    /// What the daemon has to know of it: JSON.
    pub session: String,
}

/// The beginning of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunStarted {
    /// The run.
    pub run: RunId,
    /// The daemon.
    pub pid: Pid,
    /// Its version.
    pub version: String,
    /// Its configuration file, if there is one.
    pub config: Option<String>,
    /// When.
    pub started_at: Timestamp,
}

/// The beginning of a worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStarted {
    /// The run.
    pub run: RunId,
    /// The worker.
    pub worker: WorkerName,
    /// Its leader.
    pub pid: Pid,
    /// What makes the pid one process and no other.
    pub start_time: StartTime,
    /// Its group.
    pub pgid: Pgid,
    /// Its port.
    pub port: Port,
    /// When.
    pub started_at: Timestamp,
}

/// The end of a worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEnded {
    /// The run.
    pub run: RunId,
    /// Its leader.
    pub pid: Pid,
    /// What makes the pid one process and no other.
    pub start_time: StartTime,
    /// When.
    pub ended_at: Timestamp,
    /// How, where that is known.
    pub exit: Option<ExitStatus>,
}

/// A restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The run.
    pub run: RunId,
    /// The worker.
    pub worker: WorkerName,
    /// When.
    pub at: Timestamp,
    /// Why: "exit 1", "requested", "unhealthy".
    pub reason: String,
}

/// A run in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryRow {
    /// The run.
    pub run: RunId,
    /// The daemon.
    pub pid: Pid,
    /// Its version.
    pub version: String,
    /// Its configuration file, if there was one.
    pub config: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When its shutdown was over; `None` if it still runs or died without one.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
    /// What it exited with.
    pub exit_code: Option<u8>,
    /// How long the shutdown took, milliseconds.
    pub shutdown_ms: Option<u64>,
    /// Workers that were started at least once.
    pub workers: u32,
    /// Restarts of workers.
    pub restarts: u32,
}

/// What went wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is none.
    #[error("there is no journal at {}", .0.display())]
    Missing(PathBuf),
    /// It can't be opened, and can't be set aside either.
    #[error("can't open the journal {}: {reason}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer mcpd wrote it.
    #[error("the journal {} has version {found}, this mcpd knows {known}", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Reading or writing failed.
    #[error("journal {}: {source}", path.display())]
    Sql {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// An entry can't be understood.
    #[error("journal {}: run {run} has an unreadable {what}", path.display())]
    Entry {
        /// Which.
        path: PathBuf,
        /// The run.
        run: String,
        /// The part.
        what: &'static str,
    },
    /// Somebody reads or writes it, so that its write-ahead log can't be folded in.
    #[error("journal {}: somebody else is using it, so its write-ahead log could not be folded in", .0.display())]
    Busy(PathBuf),
}

impl Journal {
    /// Opens the journal for writing, and makes it where there is none. One that is damaged,
    /// locked or newer is renamed to `journal.sqlite3.damaged-TIME` and a fresh one made: the
    /// warning says so. Entries of more than [`KEPT_DAYS`] days are forgotten.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        open::for_writing(path)
    }

    /// Opens the journal for reading, beside a daemon that writes or without one. It changes
    /// and leaves nothing.
    pub fn open_read_only(path: &Path) -> Result<Self, JournalError> {
        open::for_reading(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Remembers something.
    pub fn record(&self, record: &Record) -> Result<(), JournalError> {
        write::record(&self.connection, record).map_err(|source| self.failed(source))
    }

    /// Remembers several things at once: all of them or none.
    pub fn record_all(&mut self, records: &[Record]) -> Result<(), JournalError> {
        write::record_all(&mut self.connection, records)
            .map_err(|source| JournalError::Sql { path: self.path.clone(), source })
    }

    /// The latest runs, the newest first.
    pub fn history(&self, limit: u32) -> Result<Vec<HistoryRow>, JournalError> {
        read::history(self, limit)
    }

    /// The report of this run, or the latest there is.
    pub fn report(&self, run: Option<RunId>) -> Result<Option<ShutdownReport>, JournalError> {
        read::report(self, run)
    }

    /// The sessions that were in use within the last [`SESSIONS_KEPT`].
    pub fn sessions(&self) -> Result<Vec<KeptSession>, JournalError> {
        read::sessions(self)
    }

    /// Folds the write-ahead log into the database and closes it. Afterwards the journal is one
    /// file with nothing beside it.
    pub fn close(self) -> Result<(), JournalError> {
        open::fold_in(&self.connection, &self.path)?;
        let Self { connection, path } = self;
        connection.close().map_err(|(_, source)| JournalError::Sql { path, source })
    }

    fn failed(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sql { path: self.path.clone(), source }
    }
}
