//! How a process ended, as wait(2) reports it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called exit(3) with this status.
    Code(i32),
    /// A signal with this number terminated it.
    Signal(i32),
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => f.pad(&format!("exit {code}")),
            Self::Signal(number) => f.pad(&crate::os::signal_name(*number)),
        }
    }
}
