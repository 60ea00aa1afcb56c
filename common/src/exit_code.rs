//! The exit codes of `mcpd` and `mcpctl`. No other file contains these numbers.
//!
//! Of several findings the most severe decides: [`Severity`] is ordered, and [`Severity::code`] is one
//! exhaustive match.

use crate::finding::Finding;
pub use crate::finding::Severity;

impl Severity {
    /// The exit code of a shutdown whose most severe finding has this severity.
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

/// The exit code of a shutdown with these findings: that of the most severe one.
pub fn of(findings: &[Finding]) -> u8 {
    findings.iter().map(|finding| finding.kind.severity()).max().unwrap_or(Severity::Clean).code()
}

const UNKNOWN_CODE: &str = "not an exit code of mcpd";

/// The meaning of a daemon's exit code, as a sentence without a full stop.
pub fn meaning(code: u8) -> &'static str {
    match code {
        0 => "clean: nothing is left and nothing had to be forced",
        1 => "some clients had to be disconnected by force",
        2 => "some workers did not exit on request; SIGTERM was needed",
        3 => "some workers needed SIGKILL",
        4 => "a port is still in use",
        5 => "a process or zombie could not be removed",
        6 => "a resource failed to close",
        100 => "internal error: the daemon stopped itself",
        101 => "the daemon died and its guardian cleaned up",
        102 => "the shutdown exceeded its total time limit",
        _ => UNKNOWN_CODE,
    }
}

/// What a service manager should do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceOutcome {
    /// The service is inactive: it was asked to stop.
    Inactive,
    /// The service has failed, and another start would not help.
    Failed,
    /// mcpd has crashed: start it again.
    Restart,
}

/// What a service manager should do after mcpd has exited with this code.
pub fn service_outcome(code: u8) -> ServiceOutcome {
    match code {
        0..=3 => ServiceOutcome::Inactive,
        // Shutdowns that were requested, but could not do everything.
        4..=6 | 102 => ServiceOutcome::Failed,
        program::USAGE | program::TEMPFAIL | program::CONFIG => ServiceOutcome::Failed,
        _ => ServiceOutcome::Restart,
    }
}

/// After which exits a service manager starts mcpd again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartWhen {
    /// After a crash.
    #[default]
    OnFailure,
    /// After every exit that the service manager did not request, except that a start can't succeed.
    Always,
}

/// Whether mcpd stays stopped after an exit with this code that the service manager did not request.
pub fn is_final(code: u8, restart: RestartWhen) -> bool {
    match restart {
        RestartWhen::OnFailure => service_outcome(code) != ServiceOutcome::Restart,
        RestartWhen::Always => [program::USAGE, program::TEMPFAIL, program::CONFIG].contains(&code),
    }
}

/// What mcpd exits with under launchd, which starts a job again after every code but 0.
pub fn for_launchd(code: u8, restart: RestartWhen) -> u8 {
    if is_final(code, restart) { 0 } else { code.max(1) }
}

/// Exit codes of failures to start, and of `mcpctl`. Most are those of sysexits(3), which don't overlap with
/// the codes of a shutdown (0 to 6, 100 to 102).
pub mod program {
    /// `mcpctl status`, `health`: no daemon is running.
    pub const NOT_RUNNING: u8 = 3;
    /// Invalid arguments.
    pub const USAGE: u8 = 64;
    /// `mcpctl`: a worker failed or did not become ready.
    pub const WORKER_FAILED: u8 = 65;
    /// The daemon can't be reached.
    pub const UNAVAILABLE: u8 = 69;
    /// A panic in `mcpctl`.
    pub const SOFTWARE: u8 = 70;
    /// `mcpctl`: timed out. `mcpd`: already running.
    pub const TEMPFAIL: u8 = 75;
    /// Permission denied.
    pub const NOPERM: u8 = 77;
    /// The configuration has errors.
    pub const CONFIG: u8 = 78;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::FindingKind;
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
        /// R-EXIT-1: the highest code that applies, in any order of the findings.
        #[test]
        fn the_code_is_the_highest_that_applies(picked in proptest::sample::subsequence(KINDS.to_vec(), 0..=KINDS.len()).prop_shuffle()) {
            let findings: Vec<_> = picked.iter().map(|kind| Finding::new(*kind, "x", "y")).collect();
            let highest = picked.iter().map(|kind| kind.severity().code()).max().unwrap_or(0);
            prop_assert_eq!(of(&findings), highest);
        }
    }

    #[test]
    fn severities_and_codes_have_the_same_order() {
        let mut kinds = KINDS;
        kinds.sort_by_key(|kind| kind.severity());
        let codes: Vec<_> = kinds.iter().map(|kind| kind.severity().code()).collect();
        assert!(codes.is_sorted());
        assert!(codes.iter().all(|code| meaning(*code) != UNKNOWN_CODE));
    }
}
