//! Derives findings, the report and the exit code from a crash record. Pure functions.

use super::record::{CleanedUpBy, CrashRecord, DaemonEnd, LeftoverProcess};
use crate::exit_code;
use crate::journal::HistoryRow;
use crate::os::child::PROOF;
use crate::outcome::{ClientsReport, Finding, FindingKind, OwnReport, REPORT_SCHEMA, ShutdownReport};

/// The `reason` in the report of a run without a complete shutdown.
pub(super) const DAEMON_DIED: &str = "daemon_died";
/// The `reason` in the report of a run whose shutdown exceeded the hard deadline, if the daemon wrote none.
const OVERRUN: &str = "overrun";

impl LeftoverProcess {
    /// The subject of a finding: the worker, or the pid if the worker is not known.
    fn subject(&self) -> String {
        self.worker.as_ref().map_or_else(|| self.pid.to_string(), ToString::to_string)
    }
}

impl CrashRecord {
    /// The exit code of the process that cleaned up.
    pub fn exit_code(&self) -> u8 {
        let found = exit_code::of(&self.findings());
        match self.end {
            // The code of a failed start is higher than that of any finding, and is kept.
            DaemonEnd::Completed(code) => code.max(found),
            DaemonEnd::Died(_) | DaemonEnd::Overrun | DaemonEnd::Hung | DaemonEnd::Unknown => found,
        }
    }

    /// One sentence for the log and the terminal, without a full stop.
    pub fn sentence(&self) -> String {
        let mut sentence = self.summary();
        if !self.ended.is_empty() {
            sentence = format!("{sentence}: {}", list(&self.ended));
        }
        if !self.left.is_empty() {
            sentence = format!("{sentence}; could not be killed: {}", list(&self.left));
        }
        sentence
    }

    /// The sentence without the lists of processes.
    fn summary(&self) -> String {
        let daemon = self.daemon;
        let end = match self.end {
            DaemonEnd::Died(exit) => format!("the daemon (pid {daemon}) died ({exit})"),
            DaemonEnd::Overrun => {
                format!(
                    "the daemon (pid {daemon}) was killed, because its shutdown exceeded the hard deadline"
                )
            }
            DaemonEnd::Hung => {
                format!("the daemon (pid {daemon}) hung and was killed, because the watchdog expired")
            }
            DaemonEnd::Completed(code) => format!("the daemon (pid {daemon}) had exited with {code}"),
            DaemonEnd::Unknown => format!("the last run, {}, did not end with a complete shutdown", self.run),
        };
        let cleaner = match self.cleaned_up_by {
            CleanedUpBy::Guardian => "its guardian",
            CleanedUpBy::NextStart => "this start",
        };
        match self.ended_count {
            0 if self.left.is_empty() => format!("{end}; none of its processes was alive"),
            0 => format!("{end}; {cleaner} killed none of its processes"),
            1 => format!("{end}; {cleaner} killed one of its processes"),
            count => format!("{end}; {cleaner} killed {count} of its processes"),
        }
    }

    /// All findings, the most severe first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.left.iter().map(left).collect();
        findings.extend(self.finding_about_the_end());
        findings.extend(self.ended.iter().map(|process| self.ended_finding(process)));
        let unnamed = self.ended_count.saturating_sub(self.ended.len() as u64);
        if unnamed > 0 {
            let detail = if unnamed == 1 {
                "one more process was killed".to_owned()
            } else {
                format!("{unnamed} more processes were killed")
            };
            findings.push(Finding::new(self.kind_of_ended(), "mcpd", detail));
        }
        findings.extend(self.preexisting.iter().map(preexisting));
        Finding::sort(&mut findings);
        findings
    }

    fn finding_about_the_end(&self) -> Option<Finding> {
        let kind = match self.end {
            DaemonEnd::Died(_) | DaemonEnd::Hung | DaemonEnd::Unknown => FindingKind::DaemonDied,
            DaemonEnd::Overrun => FindingKind::Overrun,
            DaemonEnd::Completed(_) => return None,
        };
        Some(Finding::new(kind, "mcpd", self.summary()))
    }

    /// After a complete shutdown a remaining process is a fault; after a crash it is expected.
    fn kind_of_ended(&self) -> FindingKind {
        match self.end {
            DaemonEnd::Completed(_) => FindingKind::ProcessLeft,
            DaemonEnd::Died(_) | DaemonEnd::Overrun | DaemonEnd::Hung | DaemonEnd::Unknown => {
                FindingKind::Information
            }
        }
    }

    fn ended_finding(&self, process: &LeftoverProcess) -> Finding {
        let detail = match self.end {
            DaemonEnd::Completed(_) => {
                format!("{process} outlived the daemon and was killed by its guardian")
            }
            _ => format!("{process} was killed with SIGKILL"),
        };
        Finding::new(self.kind_of_ended(), process.subject(), detail)
    }

    /// The report of the run's end: `written`, the daemon's own report, with the findings of this record
    /// added. Without it, or if the daemon did not complete its shutdown, a new report.
    pub fn report(&self, written: Option<ShutdownReport>) -> ShutdownReport {
        let written = written.filter(|_| matches!(self.end, DaemonEnd::Completed(_)));
        let mut report = written.unwrap_or_else(|| self.bare_report());
        // `written` may contain the findings already: this function is idempotent.
        let new: Vec<_> =
            self.findings().into_iter().filter(|finding| !report.findings.contains(finding)).collect();
        report.findings.extend(new);
        Finding::sort(&mut report.findings);
        report.exit_code = self.exit_code().max(exit_code::of(&report.findings));
        report.finished_at = report.finished_at.max(self.finished_at);
        report.proof = self.proved.then(|| PROOF.to_owned());
        report
    }

    fn bare_report(&self) -> ShutdownReport {
        let took = self.finished_at.duration_since(self.detected_at);
        let reason = match self.end {
            DaemonEnd::Overrun => OVERRUN,
            DaemonEnd::Died(_) | DaemonEnd::Hung | DaemonEnd::Completed(_) | DaemonEnd::Unknown => {
                DAEMON_DIED
            }
        };
        ShutdownReport {
            schema: REPORT_SCHEMA.to_owned(),
            run: self.run,
            reason: reason.to_owned(),
            started_at: self.detected_at,
            finished_at: self.finished_at,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(0),
            exit_code: self.exit_code(),
            backend: self.backend,
            containment: None,
            proof: None,
            phases: vec![],
            workers: vec![],
            clients: ClientsReport::default(),
            ports: vec![],
            resources: vec![],
            own: OwnReport::default(),
            findings: vec![],
        }
    }

    /// Fills in what the journal does not have about the end of this run.
    pub fn complete(&self, row: &mut HistoryRow) {
        if row.run != self.run {
            return;
        }
        let report = self.report(None);
        row.ended_at = Some(report.finished_at);
        row.reason.get_or_insert(report.reason);
        row.exit_code = Some(row.exit_code.unwrap_or(0).max(report.exit_code));
        row.shutdown_ms.get_or_insert(report.duration_ms);
    }
}

fn left(process: &LeftoverProcess) -> Finding {
    let detail = format!("{process} could not be killed");
    Finding::new(FindingKind::ProcessLeft, process.subject(), detail)
}

fn preexisting(process: &LeftoverProcess) -> Finding {
    let detail = format!("{process} existed before mcpd (inherited through exec) and was not touched");
    Finding::new(FindingKind::Information, process.subject(), detail)
}

fn list(processes: &[LeftoverProcess]) -> String {
    processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
