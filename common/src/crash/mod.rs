//! What was found and ended when a daemon died without a completed shutdown (R-CONT-5, R-CONT-6).
//!
//! ```text
//! guardian ---publish---> crash.jsonl, last-shutdown.json ---read---> mcpctl, at once
//!                                                          `--------> the next start: journal
//! ```
//!
//! `lines.rs` is the file, `tell.rs` what it means: findings, the report, the exit code.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Pid, RunId, WorkerName};
use crate::os::Backend;
use crate::outcome::{ExitStatus, ShutdownReport};
use crate::paths::{StateDir, durable};

mod lines;
mod tell;
#[cfg(test)]
mod tests;

/// The `schema` in the first line of a crash record.
pub const CRASH_SCHEMA: &str = "mcpd.crash.v1";

/// As many processes are named one by one; of more only the number is kept.
pub const NAMED: usize = 50;

/// What somebody found who cleaned up after a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashRecord {
    /// The run that ended so.
    pub run: RunId,
    /// Its version.
    pub version: String,
    /// Who found and writes it.
    pub witness: Witness,
    /// The daemon.
    pub daemon: Pid,
    /// How it ended.
    pub end: DaemonEnd,
    /// When that was noticed.
    pub noticed_at: Timestamp,
    /// When all was cleaned up.
    pub finished_at: Timestamp,
    /// Which eyes looked.
    pub backend: Backend,
    /// The kernel said that no descendant is left.
    pub proved: bool,
    /// How many processes were ended.
    pub ended_count: u64,
    /// The first [`NAMED`] of them.
    pub ended: Vec<LeftoverProcess>,
    /// What could not be ended.
    pub left: Vec<LeftoverProcess>,
    /// What was there before mcpd (inherited through exec), and was not touched.
    pub spared: Vec<LeftoverProcess>,
    /// Lines of the file that could not be read.
    pub damaged_lines: u32,
}

/// Who cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// The daemon's guardian, at once.
    Guardian,
    /// The next start: the guardian had died, too.
    NextStart,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonEnd {
    /// Without having completed a shutdown.
    Died(ExitStatus),
    /// Past its hard deadline, by its guardian's hand.
    Overrun,
    /// Its shutdown was complete, with this code, but something outlived it.
    Completed(u8),
    /// Nobody saw it.
    Unseen,
}

/// A process that was found: for reading, not for signalling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverProcess {
    /// Its pid.
    pub pid: Pid,
    /// Its command line, arguments joined by spaces.
    pub command: String,
    /// Its worker, by the mark that it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerName>,
}

/// Why there is no crash record to be had.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// It can't be read.
    #[error("can't read the crash record {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The line that says which run it is about is not there.
    #[error("the crash record {} is damaged: it does not say which run it is about", .0.display())]
    Damaged(PathBuf),
}

impl CrashRecord {
    /// Reads it; `None` if there is none. Damaged lines are counted, and cost what they said.
    ///
    /// # Errors
    /// See [`CrashError`].
    pub fn read(path: &Path) -> Result<Option<Self>, CrashError> {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(&bytes).map(Some).ok_or_else(|| CrashError::Damaged(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CrashError::Read { path: path.to_owned(), source }),
        }
    }

    /// Understands the bytes of a record; `None` if they do not say which run they are about.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        lines::parse(bytes)
    }

    /// Writes the record and, as the account of that run's end, `last-shutdown.json`; each is either
    /// there as a whole or not at all.
    ///
    /// # Errors
    /// What the file system said of the first that failed; the other was tried all the same.
    pub fn publish(&self, state: &StateDir) -> io::Result<()> {
        let record = durable::write(&state.crash(), lines::write(self).as_bytes());
        record.and(self.write_report(state))
    }

    /// The account of the run's end: that of the daemon in this state directory, if it wrote one,
    /// with what was found afterwards.
    pub fn account(&self, state: &StateDir) -> ShutdownReport {
        self.report(account_of(state).filter(|report| report.run == self.run))
    }

    /// Writes `last-shutdown.json` alone.
    ///
    /// # Errors
    /// What the file system said.
    pub fn write_report(&self, state: &StateDir) -> io::Result<()> {
        let report = serde_json::to_vec_pretty(&self.account(state)).map_err(io::Error::from);
        report.and_then(|json| durable::write(&state.last_shutdown(), &json))
    }
}

/// The report of the last shutdown in this state directory: what the daemon wrote, or later its
/// guardian; `None` if there is none that can be read.
pub fn last_shutdown(state: &StateDir) -> Option<ShutdownReport> {
    let written = account_of(state);
    let crash = CrashRecord::read(&state.crash()).ok().flatten().map(|crash| crash.account(state));
    written.into_iter().chain(crash).max_by_key(|report| report.finished_at)
}

fn account_of(state: &StateDir) -> Option<ShutdownReport> {
    serde_json::from_slice(&std::fs::read(state.last_shutdown()).ok()?).ok()
}
