//! The containers of workers: what is done before a start, at a stop request, and when a process is gone.

use std::time::Duration;

use mcpd_common::config::{Variables, WorkerConfig};
use mcpd_common::ids::Slot;

use super::{Supervisor, TaskResult};
use crate::deadline::Deadline;
use crate::process::container::{ContainerEnv, EndReport, EngineError, StopResult, WorkerContainer, names};

/// How long an engine may take beyond the time that the containers have.
const ENGINE_TIME: Duration = Duration::from_secs(5);

/// What a start needs, after its check.
pub(super) struct CheckedStart {
    pub variables: Variables,
    /// Of a worker whose command runs a container.
    pub container: Option<WorkerContainer>,
}

/// How a container was stopped, or that it could not be.
pub(super) enum ContainerEnd {
    Stopped(Result<StopResult, EngineError>),
    Ended(Result<EndReport, EngineError>),
    /// The remaining waits were cut short; the verification ends it.
    CutShort,
}

/// Ends what the last process of the worker left in its engine, and makes the start known to a later recovery.
///
/// # Errors
/// Why a container of the last process is still there, or why the record can't be written.
pub(super) async fn prepare_start(
    env: &ContainerEnv,
    config: &WorkerConfig,
    variables: Variables,
    is_first: bool,
    graceful: Duration,
) -> Result<CheckedStart, String> {
    let container = env.of_worker(config, &variables);
    if let Some(container) = &container {
        if !is_first {
            end_last(container, graceful).await?;
        }
        let path = container.path();
        container
            .prepare_start()
            .map_err(|error| format!("can't record its container in {}: {error}", path.display()))?;
    }
    Ok(CheckedStart { variables, container })
}

async fn end_last(container: &WorkerContainer, graceful: Duration) -> Result<(), String> {
    let name = container.worker();
    match container.end(Some(graceful), Deadline::after(graceful + ENGINE_TIME)).await {
        Ok(EndReport { left, .. }) if !left.is_empty() => {
            Err(format!("its last container could not be ended: {}", names(&left)))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            // The start shows what is wrong with the engine.
            tracing::warn!(worker = %name, %error, "can't find out whether its last container is gone");
            Ok(())
        }
    }
}

impl Supervisor {
    /// The stop command of a worker that runs a container and has no other one.
    pub(super) fn stop_container(&mut self, slot: Slot) {
        let limit = Deadline::after(self.graceful + ENGINE_TIME);
        let graceful = self.graceful;
        self.with_container(slot, move |container: WorkerContainer| async move {
            ContainerEnd::Stopped(container.stop(graceful, limit).await)
        });
    }

    /// The worker's processes are gone; its container may not be.
    pub(super) fn end_container(&mut self, slot: Slot) {
        let limit = Deadline::after(self.graceful + ENGINE_TIME);
        let graceful = self.graceful;
        self.with_container(slot, move |container: WorkerContainer| async move {
            ContainerEnd::Ended(container.end(Some(graceful), limit).await)
        });
    }

    /// The worker counts as present until the task is done.
    fn with_container<F>(&mut self, slot: Slot, task: impl FnOnce(WorkerContainer) -> F + Send + 'static)
    where
        F: Future<Output = ContainerEnd> + Send,
    {
        let Some(worker) = self.workers.get_mut(&slot) else { return };
        let Some(container) = worker.container.clone() else { return };
        worker.stop_commands += 1;
        let (cut_short, task_results) = (self.cut_short.clone(), self.task_results.clone());
        tokio::spawn(async move {
            let end = cut_short.run_until_cancelled(task(container)).await;
            let _ =
                task_results.send(TaskResult::ContainerEnded(slot, end.unwrap_or(ContainerEnd::CutShort)));
        });
    }

    pub(super) fn container_ended(&mut self, slot: Slot, end: ContainerEnd) {
        let is_shutdown = self.progress.is_some();
        let Some(worker) = self.workers.get_mut(&slot) else { return };
        worker.stop_commands -= 1;
        let (notes, killed) = describe(end);
        for text in notes.iter().chain(&killed) {
            tracing::info!(worker = %worker.config.name, "{text}");
        }
        // The report of a shutdown is about that shutdown only.
        if is_shutdown {
            worker.outcome.notes.extend(notes);
            worker.outcome.killed_containers.extend(killed);
        }
    }
}

/// Information, and containers that had to be killed.
fn describe(end: ContainerEnd) -> (Vec<String>, Vec<String>) {
    match end {
        ContainerEnd::Stopped(Ok(StopResult::Killed { seconds })) => {
            let text = format!(
                "its container did not exit within {seconds} s of the engine's stop, which killed it"
            );
            (vec![], vec![text])
        }
        // Whether the container is gone is found out by the next list.
        ContainerEnd::Stopped(Ok(StopResult::Exited) | Err(_)) | ContainerEnd::CutShort => (vec![], vec![]),
        ContainerEnd::Ended(Ok(report)) => of_report(&report),
        ContainerEnd::Ended(Err(error)) => {
            (vec![format!("whether its container is gone could not be found out: {error}")], vec![])
        }
    }
}

fn of_report(report: &EndReport) -> (Vec<String>, Vec<String>) {
    let is_killed = |id: &str| report.killed.iter().any(|container| container.id == id);
    let stopped = report.ended.iter().filter(|container| !is_killed(&container.id));
    let notes =
        stopped.map(|it| format!("its container {it} outlived the client of the engine, and was ended"));
    let killed = report.killed.iter().map(|it| format!("its container {it} had to be killed"));
    (notes.collect(), killed.collect())
}
