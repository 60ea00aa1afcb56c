//! The phases of a shutdown and their order (specification, section 6).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So long past the sum of all phases the daemon may take to say that it overran; then its guardian
/// kills it.
pub const PAST_BOUND: Duration = Duration::from_secs(5);

/// A phase of the shutdown. A phase always runs, whatever happened in the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The flag is set, restarts are off, what exists is recorded.
    Initiated,
    /// Every worker is asked to leave, all at the same time.
    WorkersGraceful,
    /// Clients take their last bytes and go.
    Clients,
    /// `SIGTERM`, then `SIGKILL`, to what is still there.
    WorkersTerminate,
    /// Processes, zombies, groups, ports, resources are looked at again.
    Verification,
    /// The report is written, the journal closed, the socket removed.
    Exit,
}

impl Phase {
    /// All phases, in order.
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
