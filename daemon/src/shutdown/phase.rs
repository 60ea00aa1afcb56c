//! What all phases share: how they begin, wait and finish.

use std::future::Future;
use std::time::Duration;

use mcpd_common::event::EventKind;
use mcpd_common::outcome::{PhaseOutcome, PhaseReport};
use mcpd_common::phase::Phase;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Shutdown, SoFar};
use crate::deadline::{self, Deadline};
use crate::logging::state;
use crate::progress::millis;
use crate::proxy::observe::client_drain::ClientDrain;

/// Between two reads of the kernel's socket table.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Between two notices of what a phase still waits for (R-SHUT-3).
const NOTICE_INTERVAL: Duration = Duration::from_secs(2);

/// What cutting the waits short does to a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnCutShort {
    EndWait,
    /// `SIGKILL` has been sent, and its effect is still awaited.
    KeepWaiting,
}

#[must_use]
pub(super) struct RunningPhase {
    phase: Phase,
    began: Instant,
    limit: Duration,
}

impl RunningPhase {
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::at(self.began + self.limit)
    }
}

impl Shutdown {
    pub(super) fn begin(&self, phase: Phase) -> RunningPhase {
        self.begin_within(phase, self.limits.of(phase))
    }

    /// Begins a phase with a limit of its own, which is never longer than the configured one.
    pub(super) fn begin_within(&self, phase: Phase, limit: Duration) -> RunningPhase {
        let limit = limit.min(self.limits.of(phase));
        let limit_ms = millis(limit);
        tracing::info!(%phase, limit_ms, "phase started");
        state::log_in_background(phase.name());
        self.progress.publish(EventKind::PhaseStarted { phase, limit_ms });
        RunningPhase { phase, began: deadline::now(), limit }
    }

    pub(super) fn finish(
        &self,
        ran: RunningPhase,
        outcome: PhaseOutcome,
        summary: String,
        so_far: &mut SoFar,
    ) {
        let RunningPhase { phase, began, limit } = ran;
        let duration_ms = millis(deadline::now().saturating_duration_since(began));
        tracing::info!(%phase, ?outcome, duration_ms, summary, "phase finished");
        so_far.phases.push(PhaseReport { phase, outcome, duration_ms, limit_ms: millis(limit) });
        self.progress.publish(EventKind::PhaseFinished { phase, outcome, duration_ms, summary });
    }

    pub(super) async fn wait_for_workers(
        &self,
        phase: &RunningPhase,
        on_cut_short: OnCutShort,
    ) -> PhaseOutcome {
        let all_stopped = self.supervisor.all_stopped();
        self.wait(phase, on_cut_short, all_stopped, || self.supervisor.remaining()).await
    }

    pub(super) async fn wait_for_clients(
        &self,
        phase: &RunningPhase,
        clients: &mut ClientDrain,
    ) -> PhaseOutcome {
        let clients = Mutex::new(clients);
        let all_gone = async {
            loop {
                // Not locked during the scan, so that the remaining clients can be named at any moment.
                let scan = clients.lock().await.begin_scan();
                let scan = scan.await;
                if clients.lock().await.finish_scan(scan) {
                    return;
                }
                deadline::until(deadline::now() + POLL_INTERVAL).await;
            }
        };
        self.wait(phase, OnCutShort::EndWait, all_gone, async || clients.lock().await.remaining()).await
    }

    pub(super) async fn wait_until_drained(&self, phase: &RunningPhase) -> PhaseOutcome {
        let remaining = async || {
            let connections = self.proxy.registry().all();
            connections.iter().map(|one| format!("{} for {}", one.endpoints.client, one.worker)).collect()
        };
        self.wait(phase, OnCutShort::EndWait, self.proxy.drained(), remaining).await
    }

    /// Waits until `done` completes, the deadline passes or the waits are cut short. Every 2 s and at the
    /// deadline it publishes what is still awaited.
    async fn wait<R: Future<Output = Vec<String>>>(
        &self,
        phase: &RunningPhase,
        on_cut_short: OnCutShort,
        done: impl Future<Output = ()>,
        remaining: impl Fn() -> R,
    ) -> PhaseOutcome {
        let mut notice = phase.began + NOTICE_INTERVAL;
        let mut done = std::pin::pin!(done);
        let was_cut_short = self.cut_short.is_cancelled();
        loop {
            tokio::select! {
                biased;
                // Cutting short kills the workers, so that "done" may be seen before the token.
                () = &mut done => {
                    let is_cut_short = self.cut_short.is_cancelled() && !was_cut_short;
                    let counts = on_cut_short == OnCutShort::EndWait && is_cut_short;
                    return if counts { PhaseOutcome::CutShort } else { PhaseOutcome::Done };
                }
                () = self.cut_short.cancelled(), if on_cut_short == OnCutShort::EndWait => {
                    return PhaseOutcome::CutShort;
                }
                () = deadline::until(phase.deadline().instant()) => {
                    self.publish_remaining(phase.phase, remaining().await);
                    return PhaseOutcome::Deadline;
                }
                () = deadline::until(notice) => {
                    notice += NOTICE_INTERVAL;
                    self.publish_remaining(phase.phase, remaining().await);
                }
            }
        }
    }

    fn publish_remaining(&self, phase: Phase, remaining: Vec<String>) {
        tracing::info!(%phase, remaining = remaining.join(", "), "still waiting");
        self.progress.publish(EventKind::Waiting { phase, remaining });
    }
}
