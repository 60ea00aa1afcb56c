//! Waits until the processes of the daemon and of its guardian have exited.
//!
//! If `mcpctl` returned at the end of the events, systemd would send `SIGTERM` to a daemon that is about to
//! exit. So it waits for the process itself, by a handle that was opened when the connection was made.

use std::time::Duration;

use mcpd_common::os::child::Handle;
use tokio::net::UnixStream;
use tokio::signal::ctrl_c;

use super::follow::{Followed, detached, overdue};
use crate::context::Context;
use crate::daemon_client::DaemonClient;
use crate::failure::Failure;
use crate::wait::{sleep, sleep_until};

/// Short, because the daemon is about to exit.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

pub async fn wait(
    context: &mut Context,
    daemon: &DaemonClient,
    guardian: Option<&Handle>,
    followed: &Followed,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = daemon_and_guardian(daemon, guardian) => Ok(()),
        _ = ctrl_c() => Err(detached()),
        () = sleep_until(followed.deadline) => {
            let pid = daemon.pid.map_or_else(|| "unknown pid".to_owned(), |pid| format!("pid {pid}"));
            context.out.note(&format!("the daemon ({pid}) at {} has not exited", daemon.socket.display()));
            Err(overdue(daemon, followed.limit_ms, "the exit of the daemon and of its guardian"))
        }
    }
}

async fn daemon_and_guardian(daemon: &DaemonClient, guardian: Option<&Handle>) {
    match &daemon.handle {
        Some(handle) => process(handle).await,
        None => listener(daemon).await,
    }
    if let Some(guardian) = guardian {
        process(guardian).await;
    }
}

/// Without a pid (the daemon is in another PID namespace) only its socket shows whether it still runs.
async fn listener(daemon: &DaemonClient) {
    while UnixStream::connect(&daemon.socket).await.is_ok() {
        sleep(POLL_INTERVAL).await;
    }
}

pub async fn process(handle: &Handle) {
    while handle.is_alive() {
        sleep(POLL_INTERVAL).await;
    }
}
