//! Reads and writes `crash.jsonl` and `last-shutdown.json` in the state directory.

use std::io;
use std::path::{Path, PathBuf};

use super::lines;
use super::record::CrashRecord;
use crate::outcome::ShutdownReport;
use crate::paths::{StateDir, durable};

/// Why a crash record can't be read.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// The file can't be read.
    #[error("can't read the crash record {}: {source}", path.display())]
    Read {
        /// The crash record.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The first line, which names the run, is missing or damaged.
    #[error("the crash record {} is damaged: it does not name its run", .0.display())]
    Damaged(PathBuf),
}

impl CrashRecord {
    /// Reads the record; `None` if there is no file. A damaged line is counted, and only its content is lost.
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

    /// Parses the bytes of a record; `None` if the line that names the run is missing or damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        lines::parse(bytes)
    }

    /// Writes the record, and the report of that run's end to `last-shutdown.json`. Each file is replaced
    /// atomically.
    ///
    /// # Errors
    /// The first error of the file system; the second file is written even if the first one failed.
    pub fn publish(&self, state: &StateDir) -> io::Result<()> {
        let record = durable::write(&state.crash(), lines::write(self).as_bytes());
        record.and(self.write_report(state))
    }

    /// The report of the run's end: the daemon's report, if it wrote one in this state directory, with the
    /// findings of this record added.
    pub fn account(&self, state: &StateDir) -> ShutdownReport {
        self.report(read_report(state).filter(|report| report.run == self.run))
    }

    /// Writes only `last-shutdown.json`.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn write_report(&self, state: &StateDir) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(&self.account(state))?;
        durable::write(&state.last_shutdown(), &json)
    }
}

/// The latest report in this state directory, from the daemon or from its guardian; `None` if there is none
/// that can be read.
pub fn last_shutdown(state: &StateDir) -> Option<ShutdownReport> {
    let written = read_report(state);
    let crash = CrashRecord::read(&state.crash()).ok().flatten().map(|crash| crash.account(state));
    written.into_iter().chain(crash).max_by_key(|report| report.finished_at)
}

fn read_report(state: &StateDir) -> Option<ShutdownReport> {
    serde_json::from_slice(&std::fs::read(state.last_shutdown()).ok()?).ok()
}
