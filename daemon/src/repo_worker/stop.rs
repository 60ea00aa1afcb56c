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

const TELLING: Duration = Duration::from_millis(500);
const IN_FLIGHT: Duration = Duration::from_secs(3);
const CUT: Duration = Duration::from_millis(500);
/// The `retry:` field that ends each event stream.
const RETRY: Duration = Duration::from_secs(5);

/// Why the worker stops; its sessions get this text.
pub type Reason = &'static str;

/// The queue of stop requests; a second one has no effect.
pub type Requests = mpsc::Sender<Reason>;

/// All sources of stop requests.
pub struct Triggers {
    requests: mpsc::Receiver<Reason>,
    terminate: Signal,
    interrupt: Signal,
    parent: super::parent::Parent,
}

/// Installs the handlers. From here on `SIGTERM` is a stop request.
pub fn triggers() -> io::Result<(Requests, Triggers)> {
    let (sender, requests) = mpsc::channel(1);
    let triggers = Triggers {
        requests,
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        parent: super::parent::Parent::watch(),
    };
    Ok((sender, triggers))
}

impl Triggers {
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
            () = self.parent.end() => "parent_ended",
        }
    }
}

/// Returns when the last connection has closed, or at the limit.
pub async fn goodbye(app: &App, connections: &TaskTracker, reason: Reason) {
    let telling = Deadline::after(TELLING);
    let in_flight = Deadline::after(IN_FLIGHT);
    app.stop_accepting();
    notify_sessions(app, reason, telling).await;
    app.close_connections();
    connections.close();
    if in_flight.wait(connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "cutting requests that did not finish");
        app.cut();
        let _ = Deadline::after(CUT).wait(connections.wait()).await;
    }
}

/// Notifies every session and ends its event stream. What a slow client does not read in time
/// is dropped; its connection still has the time of requests in flight.
async fn notify_sessions(app: &App, reason: Reason, deadline: Deadline) {
    let mut told = JoinSet::new();
    for peer in app.sessions().peers() {
        told.spawn(async move { peer.send_notification(notification(reason)).await.is_ok() });
    }
    let count = told.len();
    let told = deadline.wait(told.join_all()).await.unwrap_or_default();
    let reached = told.into_iter().filter(|reached| *reached).count();

    let mut streams = JoinSet::new();
    for session in app.sessions().handles().await {
        streams.spawn(async move { session.close_standalone_sse_stream(Some(RETRY)).await.is_ok() });
    }
    let _ = deadline.wait(streams.join_all()).await;
    tracing::info!(told = reached, of = count, "sessions were told");
}

fn notification(reason: Reason) -> ServerNotification {
    let params = serde_json::json!({ "reason": reason });
    ServerNotification::CustomNotification(CustomNotification::new("notifications/shutdown", Some(params)))
}
