//! The crash record: what was found and killed after a daemon ended without a complete shutdown
//! (R-CONT-5, R-CONT-6).
//!
//! ```text
//! guardian ---publish---> crash.jsonl, last-shutdown.json ---read---> mcpctl, at once
//!                                                          `--------> the next start: journal
//! ```
//!
//! `record.rs` is the data, `lines.rs` the file format, `store.rs` reads and writes the files, and
//! `describe.rs` derives findings, the report and the exit code.

mod describe;
mod lines;
mod record;
mod store;
#[cfg(test)]
mod tests;

pub use record::{CRASH_SCHEMA, CleanedUpBy, CrashRecord, DaemonEnd, LeftoverProcess, NAMED};
pub use store::{CrashError, last_shutdown};
