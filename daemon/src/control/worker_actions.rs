//! Starts, stops and restarts workers on request. Each worker is followed until the action
//! is done.

use std::time::Duration;

use mcpd_common::ids::WorkerName;
use mcpd_common::status::WorkerState;
use mcpd_proto::v1;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::deadline::{self, Deadline};
use crate::progress::millis;
use crate::supervisor::handle::{Order, SupervisorHandle, Transition, WorkerAction};

/// Limit for becoming ready; then the worker is reported in its current state.
const START: Duration = Duration::from_secs(30);

/// Carries out one action; `stop_limit` bounds the stop.
///
/// # Errors
/// When the worker does not exist, or the supervisor does not reply.
pub async fn carry_out(
    workers: &SupervisorHandle,
    name: WorkerName,
    action: WorkerAction,
    stop_limit: Duration,
) -> Result<v1::WorkerResult, tonic::Status> {
    let began = deadline::now();
    let mut transitions = workers.transitions();
    let state = workers.ask(|reply| Order::Worker(name.clone(), action, reply)).await;
    let state = state
        .map_err(|gone| tonic::Status::internal(gone.to_string()))?
        .map_err(|unknown| tonic::Status::not_found(unknown.to_string()))?;
    let limit = Deadline::after(stop_limit + START);
    let now = Transition { name: name.clone(), state, reason: None };
    let settled = follow(&mut transitions, now, action, limit).await;
    let all = workers.status().await.map_err(|gone| tonic::Status::internal(gone.to_string()))?;
    let status = all.into_iter().find(|worker| worker.name == name);
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
    transitions: &mut Receiver<Transition>,
    mut last: Transition,
    action: WorkerAction,
    limit: Deadline,
) -> Transition {
    while !is_settled(action, last.state) {
        match limit.wait(transitions.recv()).await {
            Ok(Ok(transition)) if transition.name == last.name => last = transition,
            // Another worker's; or this receiver lagged behind, and a later transition says the same.
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        }
    }
    last
}

fn is_fulfilled(action: WorkerAction, state: WorkerState) -> bool {
    match action {
        WorkerAction::Start | WorkerAction::Restart => state == WorkerState::Ready,
        WorkerAction::Stop => state == WorkerState::Stopped,
    }
}

fn is_settled(action: WorkerAction, state: WorkerState) -> bool {
    match state {
        WorkerState::Starting | WorkerState::Stopping => false,
        WorkerState::Ready | WorkerState::Unhealthy => action != WorkerAction::Stop,
        WorkerState::BackingOff | WorkerState::Failed | WorkerState::Stopped => true,
    }
}

fn sentence(action: WorkerAction, state: WorkerState, reason: Option<String>) -> String {
    let what = match (action, state) {
        (_, WorkerState::Ready) => "responds",
        (WorkerAction::Stop, WorkerState::Stopped) => "is stopped; no process of it is left",
        (_, WorkerState::Starting) => "is running, but does not respond yet",
        (_, WorkerState::BackingOff) => "exited again; mcpd starts it again",
        (_, WorkerState::Failed) => "failed",
        (_, WorkerState::Unhealthy) => "is running, but does not respond",
        (_, WorkerState::Stopping) => "is still stopping",
        (_, WorkerState::Stopped) => "is stopped",
    };
    match reason {
        Some(reason) if state != WorkerState::Ready => format!("{what}: {reason}"),
        _ => what.to_owned(),
    }
}
