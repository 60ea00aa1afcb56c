//! Receives requests for a shutdown: the first one starts it, later ones are judged while it runs.

use mcpd_common::event::EventKind;
use mcpd_common::ids::Pid;
use mcpd_common::outcome::{Finding, FindingKind};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::request::{Requests, Response, Trigger};
use crate::deadline;
use crate::progress::Progress;
use crate::supervisor::handle::{Order, SupervisorHandle};

/// Owns what later requests act on.
pub struct RequestListener {
    pub triggers: mpsc::UnboundedReceiver<Trigger>,
    pub requests: Requests,
    pub supervisor: SupervisorHandle,
    pub progress: Progress,
    pub cut_short: CancellationToken,
    pub findings: mpsc::UnboundedSender<Finding>,
    /// Why the process has to exit in the end, even if it is about to be replaced.
    pub exit_reason: watch::Sender<Option<String>>,
    pub guardian: Pid,
}

impl RequestListener {
    /// Waits for the request that starts the shutdown, and does what belongs to it alone.
    pub async fn first(&mut self) -> Trigger {
        let trigger = match self.triggers.recv().await {
            Some(trigger) => trigger,
            // Never happens: the control service holds a sender.
            None => std::future::pending().await,
        };
        // The first request begins a shutdown, whatever it is (request.rs).
        let _begin = self.requests.on(&trigger, deadline::now());
        self.prepare(&trigger);
        trigger
    }

    fn prepare(&self, trigger: &Trigger) {
        match trigger {
            Trigger::Emergency { what } => self.report_internal_error(what.clone()),
            Trigger::GuardianDied => self.report_guardian_exit(),
            Trigger::Rpc { now: true, .. } => self.cut_short.cancel(),
            Trigger::Rpc { .. } | Trigger::Signal(_) | Trigger::Restart { .. } => {}
        }
    }

    /// Judges the requests that arrive while the shutdown runs.
    pub async fn listen(mut self) {
        while let Some(trigger) = self.triggers.recv().await {
            let response = self.requests.on(&trigger, deadline::now());
            self.exit_reason.send_replace(self.requests.exit().map(str::to_owned));
            match response {
                Response::CutShort { by } => {
                    tracing::warn!(by, "the remaining waits are cut short");
                    self.progress.publish(EventKind::Hurried { by: by.to_owned() });
                    self.cut_short.cancel();
                    self.supervisor.send(Order::KillAll);
                }
                Response::NoteInternalError { what } => self.report_internal_error(what),
                Response::Begin | Response::Ignore => {
                    tracing::info!(reason = trigger.reason(), "ignored: a shutdown is already running");
                }
            }
        }
    }

    fn report_internal_error(&self, what: String) {
        tracing::error!(what, "internal error");
        // The receiver is gone only when the report is written already.
        let _ = self.findings.send(Finding::new(FindingKind::InternalError, "mcpd", what));
    }

    /// Information, not an error: the shutdown itself may be clean.
    fn report_guardian_exit(&self) {
        let pid = self.guardian;
        let detail = format!("the guardian (pid {pid}) exited before the daemon, so the daemon shut down");
        let _ = self.findings.send(Finding::new(FindingKind::Information, "mcp-guardian", detail));
    }
}
