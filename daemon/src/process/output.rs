//! Drains the output of workers (R-SUP-1).
//!
//! A thread of its own reads every worker's pipe and passes the bytes on to the thread of `log_writer.rs`. A worker
//! that writes without end slows these threads and nothing else; bytes that can't be written are dropped and
//! counted. The end of a pipe is never awaited, since a descendant may hold its write end (R-SHUT-2).

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mcpd_common::ids::WorkerName;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::log_writer::LogWriter;
use crate::deadline::Deadline;
use crate::last_output::LastOutput;

/// Bytes read at once: the default capacity of a pipe, pipe(7).
const CHUNK: usize = 64 * 1024;

/// How many lines of a channel may wait.
const LINES: usize = 64;

enum OutputCommand {
    Drain(WorkerName, OwnedFd, Arc<LastOutput>),
    Copy(WorkerName, mpsc::Receiver<Vec<u8>>),
    Close(oneshot::Sender<()>),
}

/// Handle of the draining thread. Cloning it is cheap.
#[derive(Clone)]
pub struct Output {
    commands: mpsc::UnboundedSender<OutputCommand>,
    logs: LogWriter,
    last: Arc<Mutex<HashMap<WorkerName, Arc<LastOutput>>>>,
}

impl Output {
    /// Starts the thread. Logs go to `log_dir/workers`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(log_dir: PathBuf) -> io::Result<Self> {
        let (commands, received) = mpsc::unbounded_channel();
        let logs = LogWriter::start(log_dir)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let writer = logs.clone();
        std::thread::Builder::new()
            .name("mcpd-output".into())
            .spawn(move || runtime.block_on(run(writer, received)))?;
        Ok(Self { commands, logs, last: Arc::default() })
    }

    /// The last lines of this worker.
    pub fn last(&self, worker: &WorkerName) -> Arc<LastOutput> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.entry(worker.clone()).or_default().clone()
    }

    /// A pipe for a worker's output. The returned write end is for the worker; the read end is drained.
    ///
    /// # Errors
    /// When no pipe can be created.
    pub fn pipe(&self, worker: &WorkerName) -> io::Result<OwnedFd> {
        let (ours, theirs) = io::pipe()?;
        let sent = self.commands.send(OutputCommand::Drain(worker.clone(), ours.into(), self.last(worker)));
        sent.map_err(|_| io::Error::other("the thread that drains output has ended"))?;
        Ok(theirs.into())
    }

    /// A channel whose bytes go into a worker's log.
    pub fn channel(&self, worker: &WorkerName) -> mpsc::Sender<Vec<u8>> {
        let (sender, received) = mpsc::channel(LINES);
        // A thread that has ended writes no log.
        let _ = self.commands.send(OutputCommand::Copy(worker.clone(), received));
        sender
    }

    /// Writes what the pipes hold now, and closes the logs.
    ///
    /// # Errors
    /// When that is not done before the deadline.
    pub async fn close(&self, deadline: Deadline) -> Result<(), String> {
        let (sender, closed) = oneshot::channel();
        // A thread that has ended has closed its logs.
        let _ = self.commands.send(OutputCommand::Close(sender));
        // What can't be read in time is not waited for: the logs are closed all the same.
        let _ = deadline.wait(closed).await;
        self.logs.close(deadline).await
    }
}

async fn run(logs: LogWriter, mut commands: mpsc::UnboundedReceiver<OutputCommand>) {
    let tasks = TaskTracker::new();
    let finish = CancellationToken::new();
    while let Some(command) = commands.recv().await {
        match command {
            OutputCommand::Drain(worker, pipe, last) => match Receiver::from_owned_fd(pipe) {
                Ok(pipe) => {
                    let drain = Drain { pipe, worker, last, logs: logs.clone() };
                    tasks.spawn(drain.run(finish.clone()));
                }
                Err(error) => tracing::error!(%error, "can't drain a worker's output"),
            },
            OutputCommand::Copy(worker, received) => {
                tasks.spawn(copy(worker, received, logs.clone(), finish.clone()));
            }
            OutputCommand::Close(reply) => {
                finish.cancel();
                tasks.close();
                tasks.wait().await;
                // The caller may have stopped waiting.
                let _ = reply.send(());
                return;
            }
        }
    }
}

async fn copy(
    worker: WorkerName,
    mut received: mpsc::Receiver<Vec<u8>>,
    logs: LogWriter,
    finish: CancellationToken,
) {
    loop {
        let bytes = tokio::select! {
            bytes = received.recv() => bytes,
            () = finish.cancelled() => received.try_recv().ok(),
        };
        match bytes {
            Some(bytes) => logs.write(&worker, bytes).await,
            None => return,
        }
    }
}

/// One pipe.
struct Drain {
    pipe: Receiver,
    worker: WorkerName,
    last: Arc<LastOutput>,
    logs: LogWriter,
}

impl Drain {
    async fn run(self, finish: CancellationToken) {
        loop {
            tokio::select! {
                ready = self.pipe.readable() => if ready.is_err() { return },
                () = finish.cancelled() => {
                    // Only what the pipe holds now, because a worker may write without end.
                    self.copy().await;
                    return;
                }
            }
            if self.copy().await == Pipe::Ended {
                return;
            }
        }
    }

    /// Copies what the pipe holds now. The buffer is on the heap only while there is something to copy.
    async fn copy(&self) -> Pipe {
        let mut chunk = Vec::with_capacity(CHUNK);
        match self.pipe.try_read_buf(&mut chunk) {
            Ok(0) => Pipe::Ended,
            Ok(_) => {
                chunk.shrink_to_fit();
                self.last.push(&chunk);
                self.logs.write(&self.worker, chunk).await;
                Pipe::Open
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pipe::Open,
            Err(_) => Pipe::Ended,
        }
    }
}

#[derive(PartialEq, Eq)]
enum Pipe {
    Open,
    Ended,
}
