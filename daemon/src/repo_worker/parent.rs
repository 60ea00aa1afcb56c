//! Watches the parent: a worker that mcpd started exits when mcpd exits.
//!
//! The parent-death signal alone would kill a worker in the middle of a response, and not every
//! system has it.

use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::child::{Handle, MARK_VARIABLE};
use mcpd_common::os::process;
use tokio::sync::oneshot;

/// Limit of one wait for the parent's exit; the wait is repeated.
const WAIT_LIMIT: Duration = Duration::from_secs(600);
/// Interval between attempts to open a handle of the parent.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
const STACK_SIZE: usize = 64 * 1024;

/// The watched parent, if it is mcpd.
pub struct Parent(Option<oneshot::Receiver<()>>);

impl Parent {
    /// Watches the parent if it is mcpd. The exit of any other parent, such as a shell, is no stop request.
    pub fn watch() -> Self {
        if std::env::var_os(MARK_VARIABLE).is_none() {
            return Self(None);
        }
        let (sender, exited) = oneshot::channel();
        let wait = move || {
            if let Some(handle) = open_parent() {
                while !handle.wait(WAIT_LIMIT) {}
            }
            // The receiver is gone when the worker is already stopping.
            let _ = sender.send(());
        };
        let thread = std::thread::Builder::new().name("parent".to_owned()).stack_size(STACK_SIZE).spawn(wait);
        match thread {
            Ok(_) => Self(Some(exited)),
            Err(error) => {
                tracing::warn!(%error, "can't watch the parent; its exit will not be noticed");
                Self(None)
            }
        }
    }

    /// Returns when the parent has exited; never if none is watched.
    pub async fn exited(&mut self) {
        match &mut self.0 {
            Some(exited) => {
                let _ = exited.await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Opens a handle of the parent; `None` if it has exited and this process was reparented.
fn open_parent() -> Option<Handle> {
    let parent = parent()?;
    let handle = loop {
        match process::read(parent).and_then(|found| found.map_or(Ok(None), |found| Handle::open(&found))) {
            Ok(handle) => break handle?,
            Err(error) => {
                tracing::warn!(%error, "can't watch the parent yet");
                crate::deadline::pause(RETRY_INTERVAL);
            }
        }
    };
    (self::parent() == Some(parent)).then_some(handle)
}

fn parent() -> Option<Pid> {
    i32::try_from(std::os::unix::process::parent_id()).ok().and_then(Pid::new)
}
