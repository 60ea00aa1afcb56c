//! The beginning, the waiting and the end that all phases have in common.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mcpd_common::event::EventKind;
use mcpd_common::outcome::{PhaseOutcome, PhaseReport};
use mcpd_common::phase::Phase;
use tokio::time::Instant;

use super::{Collected, Hurrying, NOTICE, Shutdown};
use crate::deadline::{self, Deadline};
use crate::logging::state;
use crate::progress::millis;
use crate::proxy::observe::client_drain::ClientDrain;
use crate::proxy::observe::registry::Connection;

/// Between two looks at the kernel's socket table.
const LOOK: Duration = Duration::from_millis(20);

/// A phase that runs.
#[must_use]
pub(super) struct Stage {
    phase: Phase,
    began: Instant,
    limit: Duration,
}

impl Stage {
    /// The phase's one deadline.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::at(self.began + self.limit)
    }
}

impl Shutdown {
    pub(super) fn begin(&self, phase: Phase) -> Stage {
        self.begin_within(phase, self.limits.of(phase))
    }

    /// Begins a phase that may take so long, and no longer than its own limit.
    pub(super) fn begin_within(&self, phase: Phase, limit: Duration) -> Stage {
        let limit = limit.min(self.limits.of(phase));
        let stage = Stage { phase, began: deadline::now(), limit };
        tracing::info!(%phase, limit_ms = millis(stage.limit), "phase started");
        state::log_in_background(phase.name());
        self.progress.publish(EventKind::PhaseStarted { phase, limit_ms: millis(stage.limit) });
        stage
    }

    pub(super) fn finish(
        &self,
        stage: Stage,
        outcome: PhaseOutcome,
        summary: String,
        so_far: &mut Collected,
    ) {
        let Stage { phase, began, limit } = stage;
        let duration_ms = millis(deadline::now().saturating_duration_since(began));
        tracing::info!(%phase, ?outcome, duration_ms, summary, "phase finished");
        so_far.phases.push(PhaseReport { phase, outcome, duration_ms, limit_ms: millis(limit) });
        self.progress.publish(EventKind::PhaseFinished { phase, outcome, duration_ms, summary });
    }

    pub(super) async fn wait_for_workers(&self, stage: &Stage, hurrying: Hurrying) -> PhaseOutcome {
        let all_left = self.workers.all_left();
        self.wait(stage, hurrying, all_left, || self.workers.remaining()).await
    }

    pub(super) async fn wait_for_clients(&self, stage: &Stage, clients: &mut ClientDrain) -> PhaseOutcome {
        let clients = tokio::sync::Mutex::new(clients);
        let all_gone = async {
            while !clients.lock().await.look() {
                deadline::until(deadline::now() + LOOK).await;
            }
        };
        self.wait(stage, Hurrying::CutsShort, all_gone, async || clients.lock().await.remaining()).await
    }

    pub(super) async fn wait_until_drained(&self, stage: &Stage) -> PhaseOutcome {
        let registry = self.proxy.registry();
        let remaining = async || {
            let connections = registry.all();
            let label = |one: &Arc<Connection>| format!("{} for {}", one.endpoints.client, one.worker);
            connections.iter().map(label).collect()
        };
        self.wait(stage, Hurrying::CutsShort, self.proxy.drained(), remaining).await
    }

    /// Waits until it is done, the deadline comes, or somebody hurries; names who is awaited
    /// every 2 s and at the deadline.
    async fn wait<R: Future<Output = Vec<String>>>(
        &self,
        stage: &Stage,
        hurrying: Hurrying,
        done: impl Future<Output = ()>,
        remaining: impl Fn() -> R,
    ) -> PhaseOutcome {
        let mut notice = stage.began + NOTICE;
        let mut done = std::pin::pin!(done);
        let hurried_before = self.hurry.is_cancelled();
        loop {
            tokio::select! {
                biased;
                // It may be done because somebody hurried, and be seen before that.
                () = &mut done => return match hurrying {
                    Hurrying::CutsShort if self.hurry.is_cancelled() && !hurried_before => PhaseOutcome::CutShort,
                    Hurrying::CutsShort | Hurrying::IsUnderWay => PhaseOutcome::Done,
                },
                () = self.hurry.cancelled(), if hurrying == Hurrying::CutsShort => {
                    return PhaseOutcome::CutShort;
                }
                () = deadline::until(stage.deadline().instant()) => {
                    self.name_who_is_left(stage.phase, remaining().await);
                    return PhaseOutcome::Deadline;
                }
                () = deadline::until(notice) => {
                    notice += NOTICE;
                    self.name_who_is_left(stage.phase, remaining().await);
                }
            }
        }
    }

    fn name_who_is_left(&self, phase: Phase, remaining: Vec<String>) {
        tracing::info!(%phase, remaining = remaining.join(", "), "still waiting");
        self.progress.publish(EventKind::Waiting { phase, remaining });
    }
}
