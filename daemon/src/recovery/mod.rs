//! How the last run ended, if not properly: learned, completed, and remembered by the next start
//! (R-CONT-5, R-CONT-6).
//!
//! ```text
//!   crash record (the guardian cleaned up) --------.
//!   run file (it could not, or died as well) -------+--> warnings: log, `mcpctl status`
//!     `-- processes.rs ends what is proven its own  `--> journal, last-shutdown.json: `report`, `history`
//! ```

mod processes;

use jiff::Timestamp;
use mcpd_common::crash::{CrashError, CrashRecord, DaemonEnd, last_shutdown};
use mcpd_common::ids::RunTag;
use mcpd_common::journal::{Record, RunStarted};
use mcpd_common::known_processes;
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::paths::{StateDir, durable};
use mcpd_common::run_file::RunFile;

/// What there is to tell of the last run.
#[derive(Default)]
#[must_use]
pub struct LastRun {
    record: Option<CrashRecord>,
    report: Option<ShutdownReport>,
    /// For the log and for `status`.
    pub warnings: Vec<String>,
}

impl LastRun {
    /// Ends what it left behind, before anything is started.
    pub async fn reclaim(state: &StateDir) -> Self {
        let mut last = Self::default();
        match CrashRecord::read(&state.crash()) {
            Ok(record) => last.record = record,
            Err(error) => last.set_aside(&error, state),
        }
        match RunFile::read(&state.run_file()) {
            Ok(Some(run_file)) => {
                let known = known_processes::of_run(&state.members(), run_file.run.tag());
                let (record, doubt) = processes::reclaim(&run_file, &known).await;
                let warning = |why| format!("processes of the last run may be left: {why}");
                last.warnings.extend(doubt.map(warning));
                last.add(record, state);
            }
            Ok(None) => {}
            Err(why) => last
                .warnings
                .push(format!("{why}; what the last run left behind, if anything, was not looked for")),
        }
        last.report = last.record.as_ref().map(|record| record.account(state));
        let sentence = last.record.as_ref().map(|record| {
            let run = record.run;
            match record.end {
                DaemonEnd::Unseen => record.sentence(),
                _ => format!("the last run, {run}, did not end properly: {}", record.sentence()),
            }
        });
        last.warnings.extend(sentence);
        last
    }

    /// The dead run that all of this is about.
    pub fn run(&self) -> Option<RunTag> {
        self.record.as_ref().map(|record| record.run.tag())
    }

    /// What was found now, with what the guardian had found before.
    fn add(&mut self, found: CrashRecord, state: &StateDir) {
        let record = match self.record.take().filter(|record| record.run == found.run) {
            Some(mut record) => {
                record.ended_count += found.ended_count;
                record.ended.extend(found.ended);
                record.left = found.left;
                record.finished_at = found.finished_at;
                record
            }
            None => with_the_daemons_account(found, state),
        };
        if let Err(error) = record.write_report(state) {
            self.warnings.push(format!("can't write how the last run ended: {error}"));
        }
        self.record = Some(record);
    }

    /// For the journal.
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

    /// The journal has it: nobody needs the record any more.
    pub fn remembered(&mut self, state: &StateDir) {
        if let Err(error) = durable::remove(&state.crash()) {
            self.warnings.push(format!("can't remove the crash record, which will be told again: {error}"));
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

/// A daemon that died after its last word had said how its shutdown went.
fn with_the_daemons_account(mut found: CrashRecord, state: &StateDir) -> CrashRecord {
    if let Some(report) = last_shutdown(state).filter(|report| report.run == found.run) {
        found.end = DaemonEnd::Completed(report.exit_code);
    }
    found
}
