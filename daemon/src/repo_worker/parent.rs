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
const ROUND: Duration = Duration::from_secs(600);
/// Delay between two attempts to get a handle on the parent.
const RETRY: Duration = Duration::from_secs(1);
const STACK: usize = 64 * 1024;

/// The watched parent, if it is mcpd.
pub struct Parent(Option<oneshot::Receiver<()>>);

impl Parent {
    /// Watches the parent if it is mcpd; a shell as parent may exit without effect.
    pub fn watch() -> Self {
        if std::env::var_os(MARK_VARIABLE).is_none() {
            return Self(None);
        }
        let (sender, ended) = oneshot::channel();
        let wait = move || {
            if let Some(handle) = hold() {
                while !handle.wait(ROUND) {}
            }
            // The receiver is gone when the worker is already stopping.
            let _ = sender.send(());
        };
        let thread = std::thread::Builder::new().name("parent".to_owned()).stack_size(STACK).spawn(wait);
        match thread {
            Ok(_) => Self(Some(ended)),
            Err(error) => {
                tracing::warn!(%error, "can't watch the parent; its end will not be noticed");
                Self(None)
            }
        }
    }

    /// Returns when the parent has exited; never if none is watched.
    pub async fn end(&mut self) {
        match &mut self.0 {
            Some(ended) => {
                let _ = ended.await;
            }
            None => std::future::pending().await,
        }
    }
}

/// A handle of the parent; `None` if it has exited and this process was reparented.
fn hold() -> Option<Handle> {
    let parent = parent()?;
    let handle = loop {
        match process::read(parent).and_then(|found| found.map_or(Ok(None), |found| Handle::open(&found))) {
            Ok(handle) => break handle?,
            Err(error) => {
                tracing::warn!(%error, "can't watch the parent yet");
                crate::deadline::pause(RETRY);
            }
        }
    };
    (self::parent() == Some(parent)).then_some(handle)
}

fn parent() -> Option<Pid> {
    i32::try_from(std::os::unix::process::parent_id()).ok().and_then(Pid::new)
}
