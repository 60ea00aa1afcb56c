//! The crash record as data.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::exit_status::ExitStatus;
use crate::ids::{Pid, RunId, WorkerName};
use crate::os::Backend;

/// The `schema` in the first line of a crash record.
pub const CRASH_SCHEMA: &str = "mcpd.crash.v1";

/// The longest list of processes in a record; of the others only the number is kept.
pub const NAMED: usize = 50;

/// What the guardian, or the next start, found and did after a daemon had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashRecord {
    /// The run that ended.
    pub run: RunId,
    /// The version of mcpd in that run.
    pub version: String,
    /// The process that cleaned up and wrote the record.
    pub cleaned_up_by: CleanedUpBy,
    /// The daemon of that run.
    pub daemon: Pid,
    /// How the daemon ended.
    pub end: DaemonEnd,
    /// When its end was detected.
    pub detected_at: Timestamp,
    /// When the cleanup was complete.
    pub finished_at: Timestamp,
    /// The backend that read processes.
    pub backend: Backend,
    /// Whether the kernel confirmed that no descendant is left.
    pub proved: bool,
    /// Number of processes that were killed.
    pub ended_count: u64,
    /// The first [`NAMED`] of the processes that were killed.
    pub ended: Vec<LeftoverProcess>,
    /// Processes that could not be killed.
    pub left: Vec<LeftoverProcess>,
    /// Children that existed before mcpd (inherited through exec) and were not touched.
    pub preexisting: Vec<LeftoverProcess>,
    /// Lines of the file that could not be parsed.
    pub damaged_lines: u32,
}

/// The process that cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanedUpBy {
    /// The daemon's guardian, immediately.
    Guardian,
    /// The next start, because the guardian had ended too.
    NextStart,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaemonEnd {
    /// Without a complete shutdown.
    Died(ExitStatus),
    /// Killed by the guardian, because its shutdown exceeded the hard deadline.
    Overrun,
    /// Killed by the guardian, because the watchdog of the service manager expired.
    Hung,
    /// After a complete shutdown, with this exit code; processes outlived it.
    Completed(u8),
    /// Not known: no process was there to reap it.
    #[serde(rename = "unseen")]
    Unknown,
}

/// A process that outlived the daemon. For display only: its pid may have been reused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftoverProcess {
    /// The pid when the process was found.
    pub pid: Pid,
    /// The command line, arguments joined by spaces.
    pub command: String,
    /// The worker it belongs to, according to its mark; `None` without a mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerName>,
}

impl fmt::Display for LeftoverProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}
