//! How a command ends: with a code, or with a failure that says what to do next (R-CLI-2).

use std::fmt;
use std::path::Path;

use mcpd_common::exit_code::program;
use serde::Serialize;

/// All went well.
pub const SUCCESS: u8 = 0;

/// `health`: not all is well.
pub const DEGRADED: u8 = 1;

/// A command that could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Failure {
    /// What it exits with.
    pub code: u8,
    /// What was tried: "show the status".
    pub tried: String,
    /// What happened.
    pub happened: String,
    /// What to do next.
    pub next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mcpctl: can't {}\n  {}\n  {}", self.tried, self.happened, self.next)
    }
}

impl Failure {
    /// A failure of this kind.
    pub fn new(
        code: u8,
        tried: impl Into<String>,
        happened: impl fmt::Display,
        next: impl Into<String>,
    ) -> Self {
        Self { code, tried: tried.into(), happened: happened.to_string(), next: next.into() }
    }

    /// No daemon runs, and the command needs one.
    pub fn not_running(tried: &str, sockets: &[impl AsRef<Path>]) -> Self {
        let listed: Vec<_> = sockets.iter().map(|socket| socket.as_ref().display().to_string()).collect();
        Self::new(
            program::UNAVAILABLE,
            tried,
            format_args!("mcpd is not running: nobody answers at {}", listed.join(" or ")),
            "start it with `mcpd`, or name its socket with --socket",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLI-2.
    #[test]
    fn a_failure_says_what_was_tried_what_happened_and_what_next() {
        let failure = Failure::not_running("restart docs", &["/run/a.sock", "/run/b.sock"]);
        insta::assert_snapshot!(failure, @r"
        mcpctl: can't restart docs
          mcpd is not running: nobody answers at /run/a.sock or /run/b.sock
          start it with `mcpd`, or name its socket with --socket
        ");
        assert_eq!(failure.code, 69);
    }
}
