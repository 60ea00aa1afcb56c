//! Which backend decides about processes, and what contains them.

use std::fmt;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// The way in which processes are found and proved to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Subreaper, pidfds, `/proc`, `sock_diag`: the kernel proves that nothing is left.
    Linux,
    /// Groups, sessions, the process tree and marks: best effort, no proof.
    Portable,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Linux => "linux",
            Self::Portable => "portable",
        })
    }
}

/// The backend in use, decided once: [`Backend::Linux`] on Linux, unless `MCPD_BACKEND=portable` is set.
pub fn backend() -> Backend {
    static BACKEND: OnceLock<Backend> = OnceLock::new();
    *BACKEND.get_or_init(|| {
        let is_forced = std::env::var_os("MCPD_BACKEND").is_some_and(|value| value == "portable");
        if cfg!(target_os = "linux") && !is_forced { Backend::Linux } else { Backend::Portable }
    })
}

/// What keeps the processes of the workers together, so that none is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containment {
    /// The strongest mechanism in use.
    pub by: ContainedBy,
    /// Where it is, or why no stronger mechanism is used, as a text for people.
    pub detail: String,
}

/// The mechanisms of containment, from best effort to enforced by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainedBy {
    /// Groups, sessions, the process tree, and marks in the environment.
    Marks,
    /// The daemon is a child subreaper: orphans of workers are reparented to it.
    Subreaper,
    /// Subreaper, and a cgroup for each worker.
    Cgroup,
}

impl fmt::Display for Containment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            ContainedBy::Marks => "marks",
            ContainedBy::Subreaper => "subreaper",
            ContainedBy::Cgroup => "cgroup",
        };
        write!(f, "{by} ({})", self.detail)
    }
}
