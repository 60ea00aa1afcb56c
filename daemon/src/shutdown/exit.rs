//! The last phase: stores the report, closes the journal, publishes the last event, removes the
//! socket.

use std::path::PathBuf;
use std::time::Duration;

use mcpd_common::event::EventKind;
use mcpd_common::exit_code;
use mcpd_common::journal::Record;
use mcpd_common::outcome::{Finding, FindingKind, PhaseOutcome, PhaseReport, ShutdownReport};
use mcpd_common::paths::{StateDir, durable};
use mcpd_common::phase::Phase;
use mcpd_common::run_file::RunFile;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::request::AfterShutdown;
use crate::deadline::{self, Deadline};
use crate::journal::JournalHandle;
use crate::logging::console::Console;
use crate::progress::{Progress, millis};
use mcpd_common::time_limits::EXIT;

/// Limit for clients of the control socket to read the last event.
const LAST_EVENT_LIMIT: Duration = Duration::from_millis(500);

/// How long a console that reads slowly may delay the exit.
const CONSOLE_FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// What the last phase closes.
pub struct Exit {
    pub state: StateDir,
    pub journal: JournalHandle,
    /// Removed, unless the next program inherits it.
    pub socket: PathBuf,
    pub progress: Progress,
    pub stop_service: CancellationToken,
    pub service: JoinHandle<()>,
    pub console: Option<Console>,
}

impl Exit {
    /// Returns the exit code. The control service closes last (R-RPC-2).
    pub async fn finish(mut self, mut report: ShutdownReport, after: AfterShutdown) -> u8 {
        let began = deadline::now();
        let deadline = Deadline::after(EXIT);
        self.progress.publish(EventKind::PhaseStarted { phase: Phase::Exit, limit_ms: millis(EXIT) });
        self.report_lost_lines(&mut report);
        let known = report.findings.len();
        self.close_journal(&mut report, deadline).await;
        let outcome =
            if report.findings.len() == known { PhaseOutcome::Done } else { PhaseOutcome::Findings };
        let duration_ms = millis(deadline::now().saturating_duration_since(began));
        report.phases.push(PhaseReport { phase: Phase::Exit, outcome, duration_ms, limit_ms: millis(EXIT) });
        report.exit_code = exit_code::of(&report.findings);
        self.write_last_shutdown(&report);
        let code = report.exit_code;
        tracing::info!(code, verdict = report.verdict(), duration_ms = report.duration_ms, "shut down");
        let summary = report.verdict().to_owned();
        self.progress.publish(EventKind::PhaseFinished { phase: Phase::Exit, outcome, duration_ms, summary });
        self.progress.publish(EventKind::Finished { report: Box::new(report) });
        self.close_service(after).await;
        if let Some(console) = self.console {
            console.flush(Deadline::after(CONSOLE_FLUSH_LIMIT)).await;
        }
        code
    }

    fn report_lost_lines(&self, report: &mut ShutdownReport) {
        let lost = self.console.as_ref().map_or(0, Console::lost);
        if lost > 0 {
            let detail =
                format!("{lost} lines were lost, because the console did not read them; the logs have them");
            report.findings.push(Finding::new(FindingKind::Information, "console", detail));
        }
    }

    async fn close_journal(&self, report: &mut ShutdownReport, deadline: Deadline) {
        self.journal.record(Record::Report(Box::new(report.clone())));
        if let Err(error) = self.journal.close(deadline).await {
            tracing::error!(%error, "the journal failed to close");
            let detail = format!("failed to close: {error}");
            report.findings.push(Finding::new(FindingKind::ResourceFailed, "journal", detail));
            Finding::sort(&mut report.findings);
        }
    }

    fn write_last_shutdown(&self, report: &ShutdownReport) {
        let path = self.state.last_shutdown();
        let written = serde_json::to_vec_pretty(report)
            .map_err(std::io::Error::from)
            .and_then(|json| durable::write(&path, &json));
        if let Err(error) = written {
            tracing::error!(path = %path.display(), %error, "the report could not be written");
        }
    }

    async fn close_service(&mut self, after: AfterShutdown) {
        self.stop_service.cancel();
        let limit = Deadline::after(LAST_EVENT_LIMIT);
        if limit.wait(&mut self.service).await.is_err() {
            tracing::info!("a client of the control socket did not read the last event in time");
            self.service.abort();
        }
        let known_processes = durable::remove(&self.state.members());
        let run_file = RunFile::remove(&self.state.run_file()).map_err(std::io::Error::other);
        let socket = match after {
            AfterShutdown::Exit => durable::remove(&self.socket),
            AfterShutdown::Replace => Ok(()),
        };
        for (what, result) in
            [("control socket", socket), ("known-processes file", known_processes), ("run file", run_file)]
        {
            if let Err(error) = result {
                tracing::error!(%error, "the {what} could not be removed");
            }
        }
    }
}
