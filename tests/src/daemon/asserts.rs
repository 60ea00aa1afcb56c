//! Assertions on a daemon that has exited.

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

    /// Waits until the daemon exits with this code, and checks that nothing is left: no process, zombie, port, socket file,
    /// run file or open journal. Exit code, report and findings must agree.
    #[track_caller]
    pub fn assert_no_trace(&mut self, expected: u8) -> ShutdownReport {
        self.assert_no_trace_but(expected, &[])
    }

    /// Like [`Self::assert_no_trace`], for a test that holds the ports of these workers.
    #[track_caller]
    pub fn assert_no_trace_but(&mut self, expected: u8, held: &[&str]) -> ShutdownReport {
        let report = self.assert_ended(expected);
        self.assert_nothing_left(held);
        assert_eq!(report.proof.is_some(), report.backend == Backend::Linux, "proof: {report:#?}");
        assert!(report.own.leaked.is_empty(), "the daemon leaked: {:?}", report.own.leaked);
        report
    }

    /// Waits until the daemon exits with this code, which report and findings must have, too. What is left is checked by
    /// [`Self::assert_nothing_left`].
    #[track_caller]
    pub fn assert_ended(&mut self, expected: u8) -> ShutdownReport {
        let code = self.wait_exit(LONGEST_SHUTDOWN);
        let report = self.report();
        assert_eq!(code, expected, "exit code; findings: {:#?}", report.findings);
        assert_eq!(report.exit_code, code, "exit code in last-shutdown.json");
        assert_eq!(
            exit_code::of(&report.findings),
            code,
            "exit code of the findings: {:#?}",
            report.findings
        );
        report
    }

    /// Checks from outside that nothing is left.
    #[track_caller]
    pub fn assert_nothing_left(&self, held: &[&str]) {
        self.assert_all_gone(held);
        let wal = PathBuf::from(format!("{}-wal", self.state().journal().display()));
        let is_open = fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
        assert!(!is_open, "the journal was not closed: {} is not empty", wal.display());
    }

    /// Like [`Self::assert_nothing_left`], except for the journal, which a killed daemon can't close.
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

    /// Runs `mcpctl shutdown --wait`, which must exit with this code; then [`Self::assert_no_trace`].
    #[track_caller]
    pub fn assert_shuts_down(&mut self, expected: u8) -> ShutdownReport {
        let output = self.mcpctl(&["shutdown", "--wait"]);
        let report = self.assert_no_trace(expected);
        assert_eq!(output.code, Some(expected.into()), "exit code of mcpctl: {output:?}");
        report
    }

    /// Waits until the guardian of a killed daemon has cleaned up: it exits with this code, nothing is left, and the report
    /// agrees.
    #[track_caller]
    pub fn assert_cleaned_up(&mut self, expected: u8) -> ShutdownReport {
        let report = self.assert_ended(expected);
        self.assert_all_gone(&[]);
        report
    }
}
