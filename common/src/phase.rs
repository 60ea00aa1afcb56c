//! The phases of a shutdown and their order (specification, section 6).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// After the time limit of the whole shutdown, the daemon has this time to report the overrun. Then its
/// guardian kills it.
pub const OVERRUN_GRACE: Duration = Duration::from_secs(5);

/// A phase of the shutdown. Every phase runs, also after a failure in an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Restarts are disabled, and the existing processes and connections are recorded.
    Initiated,
    /// The exit of all workers is requested, at the same time.
    WorkersGraceful,
    /// Clients read the rest of their responses and disconnect.
    Clients,
    /// Remaining processes get `SIGTERM`, then `SIGKILL`.
    WorkersTerminate,
    /// Processes, zombies, groups, ports and resources are checked.
    Verification,
    /// The report is written, the journal closed, the socket removed.
    Exit,
}

impl Phase {
    /// In the order in which they run.
    pub const ALL: [Self; 6] = [
        Self::Initiated,
        Self::WorkersGraceful,
        Self::Clients,
        Self::WorkersTerminate,
        Self::Verification,
        Self::Exit,
    ];

    /// The name, as in the specification and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiated => "initiated",
            Self::WorkersGraceful => "workers-graceful",
            Self::Clients => "clients",
            Self::WorkersTerminate => "workers-terminate",
            Self::Verification => "verification",
            Self::Exit => "exit",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
