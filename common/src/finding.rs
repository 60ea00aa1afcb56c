//! Findings of a shutdown, and their severity.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An irregularity that a shutdown found, or information worth reporting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Decides the severity, and so the exit code.
    pub kind: FindingKind,
    /// The name of the worker or resource, the number of the port, or the pid of the process.
    pub subject: String,
    /// One sentence, without a full stop.
    pub detail: String,
}

impl Finding {
    /// Creates a finding from its three parts.
    pub fn new(kind: FindingKind, subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        Self { kind, subject: subject.to_string(), detail: detail.into() }
    }

    /// Puts the most severe findings first; findings of one severity keep their order.
    pub fn sort(findings: &mut [Self]) {
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
    }
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// No fault: `TIME_WAIT`, or another program on a port that was released.
    Information,
    /// A client did not read its response in time and was disconnected.
    ClientForced,
    /// A worker exited only after `SIGTERM`, although it was asked in another way first.
    WorkerTerminated,
    /// Descendants outlived their leader and exited after `SIGTERM`.
    DescendantsTerminated,
    /// A worker exited only after `SIGKILL`.
    WorkerKilled,
    /// Descendants outlived their leader and exited only after `SIGKILL`.
    DescendantsKilled,
    /// A port can't be bound again.
    PortInUse,
    /// A zombie can't be reaped.
    ZombieLeft,
    /// A process could not be killed.
    ProcessLeft,
    /// A resource failed to close.
    ResourceFailed,
    /// A panic, or another failure inside the daemon.
    InternalError,
    /// The daemon died, and its guardian or the next start cleaned up.
    DaemonDied,
    /// The shutdown exceeded its total time limit.
    Overrun,
}

/// The severity of a finding. The order is the order of the exit codes (see
/// [`exit_code`](crate::exit_code)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Information only.
    Clean,
    /// Clients had to be disconnected.
    ClientsForced,
    /// Workers needed `SIGTERM`.
    Terminated,
    /// Workers needed `SIGKILL`.
    Killed,
    /// A port is still in use.
    PortInUse,
    /// A process or zombie could not be removed.
    ProcessLeft,
    /// A resource failed to close.
    ResourceFailed,
    /// A panic, or another failure inside the daemon.
    Internal,
    /// The daemon died and its guardian cleaned up.
    Died,
    /// The shutdown exceeded its total time limit.
    Overrun,
}

impl FindingKind {
    /// The severity of findings of this kind.
    pub fn severity(self) -> Severity {
        match self {
            Self::Information => Severity::Clean,
            Self::ClientForced => Severity::ClientsForced,
            Self::WorkerTerminated | Self::DescendantsTerminated => Severity::Terminated,
            Self::WorkerKilled | Self::DescendantsKilled => Severity::Killed,
            Self::PortInUse => Severity::PortInUse,
            Self::ZombieLeft | Self::ProcessLeft => Severity::ProcessLeft,
            Self::ResourceFailed => Severity::ResourceFailed,
            Self::InternalError => Severity::Internal,
            Self::DaemonDied => Severity::Died,
            Self::Overrun => Severity::Overrun,
        }
    }
}
