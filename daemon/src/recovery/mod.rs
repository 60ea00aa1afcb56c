//! Recovery after a run that did not end properly: the next start kills its processes and reports its end
//! (R-CONT-5, R-CONT-6).
//!
//! ```text
//!   crash record (the guardian cleaned up) ----------.
//!   run file (it could not, or died as well) ---------+--> warnings: log, `mcpctl status`
//!     `-- processes.rs kills the processes of the run `--> journal, last-shutdown.json: `report`, `history`
//!   container records: containers.rs asks the engines --> log, `mcpctl status`
//!   no run file: orphans.rs names processes of runs that nothing supervises --> log
//! ```

pub mod containers;
mod orphans;
mod processes;

use jiff::Timestamp;
use mcpd_common::crash::{CrashError, CrashRecord, DaemonEnd, last_shutdown};
use mcpd_common::ids::RunTag;
use mcpd_common::journal::{Record, RunStarted};
use mcpd_common::known_processes;
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::paths::{StateDir, durable};
use mcpd_common::run_file::RunFile;

/// The end of the last run; empty if it ended properly.
#[derive(Default)]
#[must_use]
pub struct LastRun {
    record: Option<CrashRecord>,
    report: Option<ShutdownReport>,
    /// For the log and for `status`.
    pub warnings: Vec<String>,
}

impl LastRun {
    /// Kills the processes of the last run that are left. To be called before any worker is started.
    pub async fn recover(state: &StateDir) -> Self {
        let mut last = Self::default();
        match CrashRecord::read(&state.crash()) {
            Ok(record) => last.record = record,
            Err(error) => last.set_aside(&error, state),
        }
        match RunFile::read(&state.run_file()) {
            Ok(Some(run_file)) => {
                let known = known_processes::of_run(&state.members(), run_file.run.tag());
                let (record, doubt) = processes::kill_leftovers(&run_file, &known).await;
                let warning = |why| format!("processes of the last run may be left: {why}");
                last.warnings.extend(doubt.map(warning));
                last.add(record, state);
            }
            Ok(None) => orphans::warn().await,
            Err(why) => {
                last.warnings.push(format!("{why}; processes of the last run, if any, were not killed"));
                orphans::warn().await;
            }
        }
        last.report = last.record.as_ref().map(|record| record.account(state));
        let sentence = last.record.as_ref().map(|record| {
            let run = record.run;
            match record.end {
                DaemonEnd::Unknown => record.sentence(),
                _ => format!("the last run, {run}, did not end properly: {}", record.sentence()),
            }
        });
        last.warnings.extend(sentence);
        last
    }

    /// The run that did not end properly.
    pub fn run(&self) -> Option<RunTag> {
        self.record.as_ref().map(|record| record.run.tag())
    }

    /// Adds the result of this recovery to the crash record of the guardian, if there is one.
    fn add(&mut self, found: CrashRecord, state: &StateDir) {
        let record = match self.record.take().filter(|record| record.run == found.run) {
            Some(mut record) => {
                record.ended_count += found.ended_count;
                record.ended.extend(found.ended);
                record.left = found.left;
                record.finished_at = found.finished_at;
                record
            }
            None => with_exit_of_daemon(found, state),
        };
        if let Err(error) = record.write_report(state) {
            self.warnings.push(format!("can't write how the last run ended: {error}"));
        }
        self.record = Some(record);
    }

    /// The records for the journal.
    pub fn records(&self) -> Vec<Record> {
        let (Some(record), Some(report)) = (&self.record, &self.report) else { return vec![] };
        let known = RunStarted {
            run: record.run,
            pid: record.daemon,
            version: record.version.clone(),
            config: None,
            started_at: record.run.began(),
        };
        vec![Record::RunKnown(known), Record::Report(Box::new(report.clone()))]
    }

    /// To be called when the journal has the records.
    pub fn remove_crash_record(&mut self, state: &StateDir) {
        if let Err(error) = durable::remove(&state.crash()) {
            self.warnings
                .push(format!("can't remove the crash record, which will be reported again: {error}"));
        }
    }

    fn set_aside(&mut self, error: &CrashError, state: &StateDir) {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let aside = state.crash().with_extension(format!("jsonl.damaged-{time}"));
        let kept = match std::fs::rename(state.crash(), &aside) {
            Ok(()) => format!("it was set aside as {}", aside.display()),
            Err(error) => format!("it can't be set aside: {error}"),
        };
        self.warnings.push(format!("{error}; {kept}"));
    }
}

/// Adds the exit code of a daemon that died after it had written its report.
fn with_exit_of_daemon(mut found: CrashRecord, state: &StateDir) -> CrashRecord {
    if let Some(report) = last_shutdown(state).filter(|report| report.run == found.run) {
        found.end = DaemonEnd::Completed(report.exit_code);
    }
    found
}

#[cfg(test)]
mod tests;
