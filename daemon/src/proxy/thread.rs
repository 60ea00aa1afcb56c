//! The thread that serves all clients.
//!
//! A client's connection and its connections to the worker are used by one task
//! on one thread, so nothing has to wake another thread. The rest of the daemon, which sometimes blocks
//! for milliseconds, runs on other threads and delays no client.

use std::io;
use std::sync::Mutex;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::deadline::Deadline;

pub struct ProxyThread {
    handle: Handle,
    end: Mutex<Option<End>>,
}

struct End {
    /// Ends the thread when dropped.
    wanted: oneshot::Sender<()>,
    came: oneshot::Receiver<()>,
}

impl ProxyThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread or descriptor is available.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (wanted, end) = oneshot::channel::<()>();
        let (over, came) = oneshot::channel::<()>();
        thread::Builder::new().name("mcpd-doors".to_owned()).spawn(move || {
            let _ = runtime.block_on(end);
            // Closes all remaining connections.
            drop(runtime);
            drop(over);
        })?;
        Ok(Self { handle, end: Mutex::new(Some(End { wanted, came })) })
    }

    /// To spawn tasks on it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the thread; remaining connections are closed.
    pub async fn stop(&self, deadline: Deadline) {
        let end = self.end.lock().ok().and_then(|mut end| end.take());
        if let Some(End { wanted, came }) = end {
            drop(wanted);
            let _ = deadline.wait(came).await;
        }
    }
}
