//! What a crash record means. Pure.

use std::fmt;

use super::{CrashRecord, DaemonEnd, LeftoverProcess, Witness};
use crate::exit_code;
use crate::journal::HistoryRow;
use crate::os::child::PROOF;
use crate::outcome::{ClientsReport, Finding, FindingKind, OwnReport, REPORT_SCHEMA, ShutdownReport};

/// The reason of a run that ended so.
pub const DAEMON_DIED: &str = "daemon_died";
/// The reason of a run whose shutdown had to be ended, where the daemon gave none.
pub const OVERRUN: &str = "overrun";

impl fmt::Display for LeftoverProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

impl LeftoverProcess {
    fn subject(&self) -> String {
        self.worker.as_ref().map_or_else(|| self.pid.to_string(), ToString::to_string)
    }
}

impl CrashRecord {
    /// What it makes the process exit with.
    pub fn exit_code(&self) -> u8 {
        let found = exit_code::of(&self.findings());
        match self.end {
            // A start that failed left nothing to be judged, and its own code says more.
            DaemonEnd::Completed(code) => code.max(found),
            DaemonEnd::Died(_) | DaemonEnd::Overrun | DaemonEnd::Unseen => found,
        }
    }

    /// One sentence for the log and the terminal, without a full stop.
    pub fn sentence(&self) -> String {
        let daemon = self.daemon;
        let what = match self.end {
            DaemonEnd::Died(exit) => format!("the daemon (pid {daemon}) died ({exit})"),
            DaemonEnd::Overrun => format!("the daemon (pid {daemon}) was not done by its hard deadline"),
            DaemonEnd::Completed(code) => format!("the daemon (pid {daemon}) had ended with {code}"),
            DaemonEnd::Unseen => format!("the last run, {}, did not end properly", self.run),
        };
        let who = match self.witness {
            Witness::Guardian => "its guardian",
            Witness::NextStart => "this start",
        };
        let ended = match self.ended_count {
            0 => "nothing of it was alive".to_owned(),
            1 => format!("{who} ended one process of it: {}", list(&self.ended)),
            count => format!("{who} ended {count} processes of it: {}", list(&self.ended)),
        };
        let left = match self.left.len() {
            0 => String::new(),
            _ => format!("; these could not be ended: {}", list(&self.left)),
        };
        format!("{what}; {ended}{left}")
    }

    /// Everything that was found, worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.left.iter().map(left).collect();
        findings.extend(self.verdict());
        findings.extend(self.ended.iter().map(|process| self.ended_finding(process)));
        let unnamed = self.ended_count.saturating_sub(self.ended.len() as u64);
        if unnamed > 0 {
            let detail = match unnamed {
                1 => "one more process was ended".to_owned(),
                unnamed => format!("{unnamed} more processes were ended"),
            };
            findings.push(Finding::new(self.kind_of_ended(), "mcpd", detail));
        }
        findings.extend(self.spared.iter().map(spared));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
        findings
    }

    fn verdict(&self) -> Option<Finding> {
        let kind = match self.end {
            DaemonEnd::Died(_) | DaemonEnd::Unseen => FindingKind::DaemonDied,
            DaemonEnd::Overrun => FindingKind::Overrun,
            DaemonEnd::Completed(_) => return None,
        };
        let short = Self { ended: vec![], left: vec![], ..self.clone() };
        let text = short.sentence();
        Some(Finding::new(kind, "mcpd", text.trim_end_matches([':', ' '])))
    }

    /// After a completed shutdown there was to be nothing.
    fn kind_of_ended(&self) -> FindingKind {
        match self.end {
            DaemonEnd::Completed(_) => FindingKind::ProcessLeft,
            DaemonEnd::Died(_) | DaemonEnd::Overrun | DaemonEnd::Unseen => FindingKind::Information,
        }
    }

    fn ended_finding(&self, process: &LeftoverProcess) -> Finding {
        let detail = match self.end {
            DaemonEnd::Completed(_) => format!("{process} outlived the daemon; its guardian ended it"),
            _ => format!("{process} was ended by SIGKILL"),
        };
        Finding::new(self.kind_of_ended(), process.subject(), detail)
    }

    /// The account of the run's end: the one that the daemon wrote, with what was found afterwards,
    /// or one of its own.
    pub fn report(&self, written: Option<ShutdownReport>) -> ShutdownReport {
        let written = written.filter(|_| matches!(self.end, DaemonEnd::Completed(_)));
        let mut report = written.unwrap_or_else(|| self.bare_report());
        // Asked twice, it says the same.
        let new: Vec<_> = self.findings().into_iter().filter(|it| !report.findings.contains(it)).collect();
        report.findings.extend(new);
        report.findings.sort_by_key(|finding| std::cmp::Reverse(finding.kind.severity()));
        report.exit_code = self.exit_code().max(exit_code::of(&report.findings));
        report.finished_at = report.finished_at.max(self.finished_at);
        report.proof = self.proved.then(|| PROOF.to_owned());
        report
    }

    fn bare_report(&self) -> ShutdownReport {
        let took = self.finished_at.duration_since(self.noticed_at);
        let reason = match self.end {
            DaemonEnd::Overrun => OVERRUN,
            DaemonEnd::Died(_) | DaemonEnd::Completed(_) | DaemonEnd::Unseen => DAEMON_DIED,
        };
        ShutdownReport {
            schema: REPORT_SCHEMA.to_owned(),
            run: self.run,
            reason: reason.to_owned(),
            started_at: self.noticed_at,
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

    /// Adds to the line of this run in the history what the journal could not learn any more.
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
    let detail = format!("{process} could not be ended");
    Finding::new(FindingKind::ProcessLeft, process.subject(), detail)
}

fn spared(process: &LeftoverProcess) -> Finding {
    let detail = format!("{process} was there before mcpd (inherited through exec) and was not touched");
    Finding::new(FindingKind::Information, process.subject(), detail)
}

fn list(processes: &[LeftoverProcess]) -> String {
    processes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
