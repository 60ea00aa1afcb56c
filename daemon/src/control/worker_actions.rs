//! Starts, stops and restarts workers on request. Each worker is followed until the action
//! is done.

use std::time::Duration;

use mcpd_common::ids::WorkerName;
use mcpd_common::status::{WorkerState, WorkerStatus};
use mcpd_proto::v1;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use crate::deadline::{self, Deadline};
use crate::progress::millis;
use crate::supervisor::handle::{Order, SupervisorGone, SupervisorHandle, Transition, WorkerAction};

/// Limit for the replies of the supervisor: to the action, and to the final query of the status.
pub const REPLIES_LIMIT: Duration = Duration::from_secs(15);

/// Carries out one action and follows the worker, until `limit` at most.
///
/// # Errors
/// When the worker does not exist, or the supervisor does not reply.
pub async fn carry_out(
    workers: &SupervisorHandle,
    name: WorkerName,
    action: WorkerAction,
    limit: Deadline,
) -> Result<v1::WorkerResult, Status> {
    let began = deadline::now();
    let mut transitions = workers.transitions();
    let state = workers.ask(|reply| Order::Worker(name.clone(), action, reply)).await;
    let state = state.map_err(internal)?.map_err(|unknown| Status::not_found(unknown.to_string()))?;
    let first = Transition { name: name.clone(), state, reason: None };
    let settled = follow(workers, &mut transitions, first, action, limit).await?;
    let status = status_of(workers, &name).await?;
    let reason = status.as_ref().and_then(|worker| worker.reason.clone()).or(settled.reason);
    Ok(v1::WorkerResult {
        name: name.to_string(),
        ok: is_fulfilled(action, settled.state),
        state: v1::WorkerState::from(settled.state).into(),
        detail: sentence(action, settled.state, reason),
        pid: status.and_then(|worker| worker.pid).map(|pid| pid.get()),
        duration_ms: millis(deadline::now().saturating_duration_since(began)),
    })
}

async fn follow(
    workers: &SupervisorHandle,
    transitions: &mut Receiver<Transition>,
    mut last: Transition,
    action: WorkerAction,
    limit: Deadline,
) -> Result<Transition, Status> {
    while !is_settled(action, last.state) {
        match limit.wait(transitions.recv()).await {
            Ok(Ok(transition)) if transition.name == last.name => last = transition,
            Ok(Ok(_)) => {}
            // The transition that settles it may be among the lost ones.
            Ok(Err(RecvError::Lagged(_))) => {
                if let Some(worker) = status_of(workers, &last.name).await? {
                    last = Transition { name: worker.name, state: worker.state, reason: worker.reason };
                }
            }
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        }
    }
    Ok(last)
}

async fn status_of(workers: &SupervisorHandle, name: &WorkerName) -> Result<Option<WorkerStatus>, Status> {
    let all = workers.status().await.map_err(internal)?;
    Ok(all.into_iter().find(|worker| worker.name == *name))
}

fn internal(gone: SupervisorGone) -> Status {
    Status::internal(gone.to_string())
}

fn is_fulfilled(action: WorkerAction, state: WorkerState) -> bool {
    match action {
        WorkerAction::Start | WorkerAction::Restart => state == WorkerState::Ready,
        WorkerAction::Stop => state == WorkerState::Stopped,
    }
}

/// Whether the action is done, has failed, or was superseded: after a stop only a later request starts a worker.
fn is_settled(action: WorkerAction, state: WorkerState) -> bool {
    match state {
        WorkerState::Stopping => false,
        WorkerState::Starting => action == WorkerAction::Stop,
        WorkerState::Ready
        | WorkerState::Unhealthy
        | WorkerState::BackingOff
        | WorkerState::Failed
        | WorkerState::Stopped => true,
    }
}

fn sentence(action: WorkerAction, state: WorkerState, reason: Option<String>) -> String {
    let what = match (action, state) {
        (WorkerAction::Stop, WorkerState::Stopped) => "is stopped; no process of it is left",
        (WorkerAction::Stop, WorkerState::Starting | WorkerState::Ready | WorkerState::Unhealthy) => {
            return "superseded by a later start".to_owned();
        }
        (WorkerAction::Start | WorkerAction::Restart, WorkerState::Stopped) => {
            return "superseded by a later stop".to_owned();
        }
        (_, WorkerState::Ready) => return "responds".to_owned(),
        (_, WorkerState::Starting) => "is running, but does not respond yet",
        (_, WorkerState::BackingOff) => "is not running; mcpd tries again",
        (_, WorkerState::Failed) => "failed",
        (_, WorkerState::Unhealthy) => "is running, but does not respond",
        (_, WorkerState::Stopping) => "is still stopping",
    };
    match reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;
    use crate::supervisor::fake::behaviour::Behaviour;
    use crate::supervisor::fake::harness::{Harness, name};

    /// The transition to `ready` is lost, because the channel keeps only the last one: the state is asked for.
    #[tokio::test(start_paused = true)]
    async fn a_lost_transition_settles_an_action() {
        let harness = Harness::running([("docs", Behaviour::exits_on_request())]).await;
        harness.until("docs", WorkerState::Ready).await;
        let (sender, mut transitions) = broadcast::channel(1);
        let of = |worker, state| Transition { name: name(worker), state, reason: None };
        for lost_or_kept in [of("docs", WorkerState::Ready), of("another", WorkerState::Ready)] {
            sender.send(lost_or_kept).expect("received");
        }
        let limit = Deadline::after(Duration::from_secs(60));
        let last = of("docs", WorkerState::Starting);
        let settled = follow(&harness.workers, &mut transitions, last, WorkerAction::Start, limit).await;
        assert_eq!(settled.expect("a supervisor").state, WorkerState::Ready);
        assert!(!limit.remaining().is_zero(), "it waited for a transition that does not come");
    }
}
