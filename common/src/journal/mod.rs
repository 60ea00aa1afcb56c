//! The journal: the data behind `mcpctl history` and `mcpctl report` (R-LOG-1), and the MCP sessions that
//! outlive a daemon (R-CLIENT-3).
//!
//! ```text
//! Journal::open -> Opened { journal, warning }     the daemon: the only writer
//! Journal::open_read_only -> Journal               mcpctl: readers, at any time
//! record(&Record)  history(limit)  report(run)  sessions()  close()
//! ```
//!
//! Neither the shutdown nor the next start depends on the journal (see [`crate::run_file`]). A damaged
//! journal loses the history and ends MCP sessions, and has no other effect.

mod database;
mod entries;
mod open;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use database::{Journal, JournalError, KEPT_DAYS, Opened, SESSIONS_KEPT};
pub use entries::{
    HISTORY_SCHEMA, HistoryRow, KeptSession, ProcessEnded, ProcessStarted, Record, Restarted, RunStarted,
};
