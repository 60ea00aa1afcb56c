//! Stopping: the stop requests of the built-in worker, and how it exits.
//!
//! ```text
//! POST /shutdown | SIGTERM | SIGINT | exit of the parent
//!     -> no new connections
//!     -> sessions are notified, their event streams end    (at most 0.5 s)
//!     -> requests in flight finish                         (at most 3 s, then they are interrupted)
//!     -> the last connection closes -> the process exits
//! ```

use std::io;
use std::time::Duration;

use rmcp::model::{CustomNotification, ServerNotification};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::http::App;
use crate::deadline::Deadline;

/// The variable with the token that a stop request must carry.
pub const TOKEN_VARIABLE: &str = "MCPD_SHUTDOWN_TOKEN";

/// Limit for the notification of all sessions.
const NOTIFY_LIMIT: Duration = Duration::from_millis(500);
/// Limit for requests in flight, from the stop request on; then they are interrupted.
const IN_FLIGHT_LIMIT: Duration = Duration::from_secs(3);
/// Limit for interrupted requests.
const INTERRUPT_LIMIT: Duration = Duration::from_millis(500);
/// The `retry:` field that ends each event stream.
const RETRY: Duration = Duration::from_secs(5);

/// Why the worker stops; its sessions get this text.
pub type Reason = &'static str;

/// Sends a stop request; a second one has no effect.
pub type StopSender = mpsc::Sender<Reason>;

/// Receives the stop requests of all sources.
pub struct StopRequests {
    requests: mpsc::Receiver<Reason>,
    terminate: Signal,
    interrupt: Signal,
    parent: super::parent::Parent,
}

/// Installs the signal handlers. From here on `SIGTERM` is a stop request.
pub fn stop_requests() -> io::Result<(StopSender, StopRequests)> {
    let (sender, requests) = mpsc::channel(1);
    let all = StopRequests {
        requests,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        parent: super::parent::Parent::watch(),
    };
    Ok((sender, all))
}

impl StopRequests {
    /// The result of `work`; `None` if a stop request comes first.
    pub async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            _ = self.first() => None,
        }
    }

    /// Waits for the first stop request.
    pub async fn first(&mut self) -> Reason {
        tokio::select! {
            Some(reason) = self.requests.recv() => reason,
            _ = self.terminate.recv() => "signal_SIGTERM",
            _ = self.interrupt.recv() => "signal_SIGINT",
            () = self.parent.exited() => "parent_ended",
        }
    }
}

/// Notifies the sessions and closes the connections. Returns when the last one has closed, or at the limit.
pub async fn drain(app: &App, connections: &TaskTracker, reason: Reason) {
    let notifying = Deadline::after(NOTIFY_LIMIT);
    let in_flight = Deadline::after(IN_FLIGHT_LIMIT);
    app.stop_accepting();
    notify_sessions(app, reason, notifying).await;
    app.close_connections();
    connections.close();
    if in_flight.wait(connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "interrupting requests that did not finish");
        app.interrupt_requests();
        let _ = Deadline::after(INTERRUPT_LIMIT).wait(connections.wait()).await;
    }
}

/// Notifies every session and ends its event stream. A session that does not take the notification before
/// the deadline goes without; its connection still has the time of requests in flight.
async fn notify_sessions(app: &App, reason: Reason, deadline: Deadline) {
    let mut notifications = JoinSet::new();
    for peer in app.sessions().peers() {
        notifications.spawn(async move { peer.send_notification(notification(reason)).await.is_ok() });
    }
    let sessions = notifications.len();
    let mut notified = 0;
    while let Ok(Some(sent)) = deadline.wait(notifications.join_next()).await {
        notified += usize::from(matches!(sent, Ok(true)));
    }

    let mut streams = JoinSet::new();
    for session in app.sessions().handles().await {
        streams.spawn(async move { session.close_standalone_sse_stream(Some(RETRY)).await.is_ok() });
    }
    let _ = deadline.wait(streams.join_all()).await;
    tracing::info!(notified, sessions, "sessions were notified");
}

fn notification(reason: Reason) -> ServerNotification {
    let params = serde_json::json!({ "reason": reason });
    ServerNotification::CustomNotification(CustomNotification::new("notifications/shutdown", Some(params)))
}
