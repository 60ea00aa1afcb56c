//! The thread that serves all clients of all doors.
//!
//! One thread of its own: a connection of a client and its connections to the worker are used by one task,
//! on one thread, and nothing that happens on them has to wake another one. What else the daemon does, some
//! of it for milliseconds at a time, runs elsewhere and delays no client.

use std::io;
use std::sync::Mutex;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::deadline::Deadline;

/// The thread, and its end.
pub struct ProxyThread {
    handle: Handle,
    end: Mutex<Option<End>>,
}

struct End {
    /// Dropped, it sends the thread home.
    wanted: oneshot::Sender<()>,
    came: oneshot::Receiver<()>,
}

impl ProxyThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the kernel gives no thread or no descriptor for it.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (wanted, end) = oneshot::channel::<()>();
        let (over, came) = oneshot::channel::<()>();
        thread::Builder::new().name("mcpd-doors".to_owned()).spawn(move || {
            let _ = runtime.block_on(end);
            // Whatever is still connected is closed with it.
            drop(runtime);
            drop(over);
        })?;
        Ok(Self { handle, end: Mutex::new(Some(End { wanted, came })) })
    }

    /// Where to spawn what it serves.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Endpoints it; whatever it still serves is cut off.
    pub async fn leave(&self, deadline: Deadline) {
        let end = self.end.lock().ok().and_then(|mut end| end.take());
        if let Some(End { wanted, came }) = end {
            drop(wanted);
            let _ = deadline.wait(came).await;
        }
    }
}
