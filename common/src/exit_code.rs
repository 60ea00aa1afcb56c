//! From findings to the number a shell sees. The only place with these numbers.
//!
//! The code is the highest that applies: [`Severity`] is ordered, and
//! [`Severity::code`] is one exhaustive match.

use crate::outcome::{Finding, FindingKind};

/// How bad a finding is. The order is the order of the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to complain of.
    Clean,
    /// Some clients had to be disconnected by force.
    ClientsForced,
    /// Some workers needed `SIGTERM`.
    Terminated,
    /// Some workers needed `SIGKILL`.
    Killed,
    /// A port is still in use.
    PortInUse,
    /// A process or zombie could not be removed.
    ProcessLeft,
    /// A resource failed to close.
    ResourceFailed,
    /// A panic or an emergency.
    Internal,
    /// The daemon died and the guardian cleaned up.
    Died,
    /// The shutdown overran its total bound.
    Overrun,
}

impl FindingKind {
    /// How bad it is.
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

impl Severity {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::ClientsForced => 1,
            Self::Terminated => 2,
            Self::Killed => 3,
            Self::PortInUse => 4,
            Self::ProcessLeft => 5,
            Self::ResourceFailed => 6,
            Self::Internal => 100,
            Self::Died => 101,
            Self::Overrun => 102,
        }
    }
}

/// The exit code of these findings: that of the worst one.
pub fn of(findings: &[Finding]) -> u8 {
    findings.iter().map(|finding| finding.kind.severity()).max().unwrap_or(Severity::Clean).code()
}

/// What a daemon's exit code says, as a sentence without a full stop.
pub fn meaning(code: u8) -> &'static str {
    match code {
        0 => "clean: nothing is left and nothing had to be forced",
        1 => "some clients had to be disconnected by force",
        2 => "some workers did not leave on request; SIGTERM was needed",
        3 => "some workers needed SIGKILL",
        4 => "a port is still in use",
        5 => "a process or zombie could not be removed",
        6 => "a resource failed to close",
        100 => "internal error: the daemon stopped itself",
        101 => "the daemon died and its guardian cleaned up",
        102 => "the shutdown overran its total bound",
        _ => "not a code of mcpd",
    }
}

/// Codes of failures to start, and of `mcpctl` itself (after BSD's sysexits(3)); they stay clear of
/// 0 to 6 and 100 and above.
pub mod program {
    /// `mcpctl status`, `health`: no daemon is running.
    pub const NOT_RUNNING: u8 = 3;
    /// Wrong arguments.
    pub const USAGE: u8 = 64;
    /// The daemon can't be reached.
    pub const UNAVAILABLE: u8 = 69;
    /// A panic in `mcpctl`.
    pub const SOFTWARE: u8 = 70;
    /// Timed out; for the daemon: already running.
    pub const TEMPFAIL: u8 = 75;
    /// Not permitted.
    pub const NOPERM: u8 = 77;
    /// Configuration.
    pub const CONFIG: u8 = 78;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [FindingKind; 13] = [
        FindingKind::Information,
        FindingKind::ClientForced,
        FindingKind::WorkerTerminated,
        FindingKind::DescendantsTerminated,
        FindingKind::WorkerKilled,
        FindingKind::DescendantsKilled,
        FindingKind::PortInUse,
        FindingKind::ZombieLeft,
        FindingKind::ProcessLeft,
        FindingKind::ResourceFailed,
        FindingKind::InternalError,
        FindingKind::DaemonDied,
        FindingKind::Overrun,
    ];

    proptest! {
        /// R-EXIT-1: the highest that applies, in whatever order they were found.
        #[test]
        fn the_code_is_the_highest_that_applies(picked in proptest::sample::subsequence(KINDS.to_vec(), 0..=KINDS.len()).prop_shuffle()) {
            let findings: Vec<_> = picked.iter().map(|kind| Finding::new(*kind, "x", "y")).collect();
            let highest = picked.iter().map(|kind| kind.severity().code()).max().unwrap_or(0);
            prop_assert_eq!(of(&findings), highest);
        }
    }

    #[test]
    fn order_and_numbers_agree() {
        let mut kinds = KINDS;
        kinds.sort_by_key(|kind| kind.severity());
        let codes: Vec<_> = kinds.iter().map(|kind| kind.severity().code()).collect();
        assert!(codes.is_sorted());
        assert!(codes.iter().all(|code| meaning(*code) != "not a code of mcpd"));
    }
}
