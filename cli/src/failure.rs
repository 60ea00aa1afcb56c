//! How a command ends: with an exit code, or with a failure that says what to do next (R-CLI-2).

use std::fmt;
use std::path::Path;

use mcpd_common::exit_code::program;
use serde::Serialize;

pub const SUCCESS: u8 = 0;

/// Exit code of `health` when mcpd runs, but a worker is not in its expected state.
pub const DEGRADED: u8 = 1;

/// Why a command failed. The fields are the JSON shape `mcpd.error.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Failure {
    /// The exit code of `mcpctl`.
    pub code: u8,
    /// The action that failed, as a verb phrase: "show the status".
    pub tried: String,
    pub happened: String,
    pub next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mcpctl: can't {}\n  {}\n  {}", self.tried, self.happened, self.next)
    }
}

impl Failure {
    pub fn new(
        code: u8,
        action: impl Into<String>,
        happened: impl fmt::Display,
        next: impl Into<String>,
    ) -> Self {
        Self { code, tried: action.into(), happened: happened.to_string(), next: next.into() }
    }

    /// The command needs a daemon, and none listens on these sockets.
    pub fn not_running(action: &str, sockets: &[impl AsRef<Path>]) -> Self {
        let listed: Vec<_> = sockets.iter().map(|socket| socket.as_ref().display().to_string()).collect();
        Self::new(
            program::UNAVAILABLE,
            action,
            format_args!("mcpd is not running: no daemon listens on {}", listed.join(" or ")),
            "start it with `mcpd`, or name its socket with --socket",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLI-2.
    #[test]
    fn a_failure_names_the_action_the_cause_and_the_next_step() {
        let failure = Failure::not_running("restart docs", &["/run/a.sock", "/run/b.sock"]);
        insta::assert_snapshot!(failure, @r"
        mcpctl: can't restart docs
          mcpd is not running: no daemon listens on /run/a.sock or /run/b.sock
          start it with `mcpd`, or name its socket with --socket
        ");
        assert_eq!(failure.code, 69);
    }
}
