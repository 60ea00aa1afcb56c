//! What has to be true when a daemon has ended.

use std::fs;
use std::path::PathBuf;

use mcpd_common::exit_code;
use mcpd_common::os::Backend;
use mcpd_common::outcome::ShutdownReport;

use super::{Daemon, LONGEST_SHUTDOWN};
use crate::ports;

impl Daemon {
    /// The report of the shutdown, from `last-shutdown.json`.
    #[track_caller]
    pub fn report(&self) -> ShutdownReport {
        let file = self.state().last_shutdown();
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Waits for its end, and finds this code and nothing else: no process, no zombie, no port, no
    /// socket file, no run file, no open journal; and process, report and findings agree.
    #[track_caller]
    pub fn assert_no_trace(&mut self, expected: u8) -> ShutdownReport {
        self.assert_no_trace_but(expected, &[])
    }

    /// The same for a test that holds these workers' ports itself.
    #[track_caller]
    pub fn assert_no_trace_but(&mut self, expected: u8, held: &[&str]) -> ShutdownReport {
        let report = self.assert_ended(expected);
        self.assert_nothing_left(held);
        assert_eq!(report.proof.is_some(), report.backend == Backend::Linux, "proof: {report:#?}");
        assert!(report.own.leaked.is_empty(), "the daemon leaked: {:?}", report.own.leaked);
        report
    }

    /// Waits for its end; process, report and findings agree on this code. What it may have left is
    /// another question: see [`Self::assert_nothing_left`].
    #[track_caller]
    pub fn assert_ended(&mut self, expected: u8) -> ShutdownReport {
        let code = self.wait_exit(LONGEST_SHUTDOWN);
        let report = self.report();
        assert_eq!(code, expected, "exit code; findings: {:#?}", report.findings);
        assert_eq!(report.exit_code, code, "last-shutdown.json against the process");
        assert_eq!(
            exit_code::of(&report.findings),
            code,
            "findings against the code: {:#?}",
            report.findings
        );
        report
    }

    /// Finds nothing of it from outside, however it ended.
    #[track_caller]
    pub fn assert_nothing_left(&self, held: &[&str]) {
        self.assert_all_gone(held);
        let wal = PathBuf::from(format!("{}-wal", self.state().journal().display()));
        let is_open = fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
        assert!(!is_open, "the journal was not closed: {} is not empty", wal.display());
    }

    /// The same without the journal, which a daemon that was killed could not close.
    #[track_caller]
    pub fn assert_all_gone(&self, held: &[&str]) {
        let left = self.trace.remaining_described();
        assert!(left.is_empty(), "processes are left:\n{}", left.join("\n"));
        for (name, port) in self.config.ports() {
            let refused = ports::held(port);
            assert!(held.contains(&name.as_str()) || refused.is_empty(), "port of {name}: {refused:?}");
        }
        for file in [self.places.socket.clone(), self.state().run_file(), self.state().members()] {
            assert!(!file.exists(), "{} is left", file.display());
        }
    }

    /// `mcpctl shutdown --wait`; then [`Self::assert_no_trace`], and `mcpctl` says the same code.
    #[track_caller]
    pub fn assert_shuts_down(&mut self, expected: u8) -> ShutdownReport {
        let output = self.mcpctl(&["shutdown", "--wait"]);
        let report = self.assert_no_trace(expected);
        assert_eq!(output.code, Some(expected.into()), "mcpctl disagrees: {output:?}");
        report
    }

    /// A killed daemon's guardian has cleaned up: it ends with this code, nothing is left, and the
    /// account says the same.
    #[track_caller]
    pub fn assert_cleaned_up(&mut self, expected: u8) -> ShutdownReport {
        let report = self.assert_ended(expected);
        self.assert_all_gone(&[]);
        report
    }
}
