//! Waiting until the daemon's process is gone, and its guardian's.
//!
//! A stop command that returns at the end of the stream makes systemd send `SIGTERM` to a daemon
//! that is just about to exit; so the process itself is waited for, by a handle taken when the
//! connection was made.

use std::time::Duration;

use mcpd_common::os::child::Handle;
use tokio::net::UnixStream;
use tokio::signal::ctrl_c;

use super::follow::{detached, overdue};
use crate::client::Daemon;
use crate::context::Context;
use crate::exit::Failure;
use crate::wait::{Instant, pause, until};

/// How often it is looked for: it has said that it exits.
const LOOK: Duration = Duration::from_millis(2);

/// Returns when daemon and guardian are gone.
pub async fn wait(
    context: &mut Context,
    daemon: &Daemon,
    guardian: Option<&Handle>,
    deadline: Instant,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = both(daemon, guardian) => Ok(()),
        _ = ctrl_c() => Err(detached()),
        () = until(deadline) => {
            let (pid, socket) = (daemon.pid, daemon.socket.display());
            let pid = pid.map_or_else(|| "of unknown pid".to_owned(), |pid| format!("pid {pid}"));
            context.out.note(&format!("the daemon ({pid}) at {socket} has not exited"));
            Err(overdue(daemon))
        }
    }
}

async fn both(daemon: &Daemon, guardian: Option<&Handle>) {
    gone(daemon).await;
    if let Some(guardian) = guardian {
        process(guardian).await;
    }
}

async fn gone(daemon: &Daemon) {
    match &daemon.handle {
        Some(handle) => process(handle).await,
        // The kernel did not name the process (another PID namespace): its socket has to do.
        None => {
            while UnixStream::connect(&daemon.socket).await.is_ok() {
                pause(LOOK).await;
            }
        }
    }
}

/// Returns when this process is gone.
pub async fn process(handle: &Handle) {
    while handle.is_alive() {
        pause(LOOK).await;
    }
}
