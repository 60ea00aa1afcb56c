//! An open journal, and its errors.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use rusqlite::Connection;

/// How long entries are kept, in days.
pub const KEPT_DAYS: i64 = 90;

/// How long an unused session is kept.
pub const SESSIONS_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// The number of the file in its directory when it was opened.
    pub(super) inode: Option<u64>,
}

impl Journal {
    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sql_error(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sql { path: self.path.clone(), source }
    }
}

/// A journal that was opened for writing.
#[derive(Debug)]
pub struct Opened {
    /// Ready for [`Journal::record`].
    pub journal: Journal,
    /// Set if an unusable journal was renamed and a new one created.
    pub warning: Option<String>,
}

/// Why an operation on the journal failed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file does not exist, or has no tables yet.
    #[error("there is no journal at {}", .0.display())]
    Missing(PathBuf),
    /// The file can't be opened, and renaming it failed or would not help.
    #[error("can't open the journal {}: {reason}", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// The error of the file system.
        reason: String,
    },
    /// A newer mcpd wrote the journal.
    #[error("the journal {} has version {found}, and this mcpd supports versions up to {known}", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version of the file.
        found: i64,
        /// The newest version that this program supports.
        known: i64,
    },
    /// Reading or writing failed.
    #[error("journal {}: {source}", path.display())]
    Sql {
        /// The database file.
        path: PathBuf,
        /// The error of SQLite.
        source: rusqlite::Error,
    },
    /// An entry can't be parsed.
    #[error("journal {}: the {what} of run {run} can't be parsed", path.display())]
    Entry {
        /// The database file.
        path: PathBuf,
        /// The run as it is written in the entry.
        run: String,
        /// The kind of entry: "report", "line in the history".
        what: &'static str,
    },
    /// Another process has the journal open, which prevents a complete checkpoint.
    #[error("journal {}: another process has it open, so the write-ahead log could not be merged into it", .0.display())]
    Busy(PathBuf),
}
