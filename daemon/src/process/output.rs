//! Drains the output of workers (R-SUP-1).
//!
//! A thread of its own reads every worker's pipe and appends to `workers/NAME.log`. A worker
//! that writes without end, or a log on a full disk, slows this thread and nothing else; bytes
//! that can't be written are dropped and counted. The end of a pipe is never awaited, since a
//! descendant may hold its write end (R-SHUT-2).

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use mcpd_common::ids::WorkerName;
use mcpd_common::paths;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::worker_log::WorkerLog;
use crate::deadline::Deadline;

/// Bytes read at once: the default capacity of a pipe, pipe(7).
const CHUNK: usize = 64 * 1024;

/// The buffer between a pipe and a log.
type Chunk = Arc<Mutex<Vec<u8>>>;

enum OutputCommand {
    Drain(WorkerName, OwnedFd),
    Close(oneshot::Sender<()>),
}

/// Handle of the draining thread. Cloning it is cheap.
#[derive(Clone)]
pub struct Output {
    commands: mpsc::UnboundedSender<OutputCommand>,
}

impl Output {
    /// Starts the thread. Logs go to `log_dir/workers`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(log_dir: PathBuf) -> io::Result<Self> {
        let (commands, received) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        std::thread::Builder::new()
            .name("mcpd-output".into())
            .spawn(move || runtime.block_on(drive(log_dir, received)))?;
        Ok(Self { commands })
    }

    /// A pipe for a worker's output. The returned write end is for the worker; the read end is drained.
    ///
    /// # Errors
    /// When no pipe can be created.
    pub fn pipe(&self, worker: &WorkerName) -> io::Result<OwnedFd> {
        let (ours, theirs) = io::pipe()?;
        let sent = self.commands.send(OutputCommand::Drain(worker.clone(), ours.into()));
        sent.map_err(|_| io::Error::other("the thread that drains output has ended"))?;
        Ok(theirs.into())
    }

    /// Writes what the pipes hold now, and closes the logs.
    ///
    /// # Errors
    /// When that is not done before the deadline.
    pub async fn close(&self, deadline: Deadline) -> Result<(), String> {
        let (sender, closed) = oneshot::channel();
        // A thread that has ended has closed its logs.
        let _ = self.commands.send(OutputCommand::Close(sender));
        match deadline.wait(closed).await {
            Ok(_) => Ok(()),
            Err(elapsed) => Err(format!("the workers' logs could not be written: {elapsed}")),
        }
    }
}

async fn drive(log_dir: PathBuf, mut commands: mpsc::UnboundedReceiver<OutputCommand>) {
    let mut logs: HashMap<WorkerName, Arc<Mutex<WorkerLog>>> = HashMap::new();
    let tasks = TaskTracker::new();
    let finish = CancellationToken::new();
    // One for all pipes: their tasks run on one thread, and none holds the buffer across an await.
    let chunk: Chunk = Arc::new(Mutex::new(vec![0; CHUNK]));
    while let Some(command) = commands.recv().await {
        match command {
            OutputCommand::Drain(worker, pipe) => {
                let path = paths::worker_log(&log_dir, &worker);
                let log = logs.entry(worker).or_insert_with(|| Arc::new(Mutex::new(WorkerLog::new(path))));
                match Receiver::from_owned_fd(pipe) {
                    Ok(pipe) => drop(tasks.spawn(drain(pipe, log.clone(), chunk.clone(), finish.clone()))),
                    Err(error) => tracing::error!(%error, "can't drain a worker's output"),
                }
            }
            OutputCommand::Close(reply) => {
                finish.cancel();
                tasks.close();
                tasks.wait().await;
                logs.clear();
                // The caller may have stopped waiting.
                let _ = reply.send(());
                return;
            }
        }
    }
}

async fn drain(pipe: Receiver, log: Arc<Mutex<WorkerLog>>, chunk: Chunk, finish: CancellationToken) {
    loop {
        tokio::select! {
            ready = pipe.readable() => if ready.is_err() { return },
            () = finish.cancelled() => {
                // Only what the pipe holds now, because a worker may write without end.
                copy_what_is_there(&pipe, &chunk, &log);
                return;
            }
        }
        if copy_what_is_there(&pipe, &chunk, &log) == Pipe::Ended {
            return;
        }
    }
}

#[derive(PartialEq, Eq)]
enum Pipe {
    Open,
    Ended,
}

fn copy_what_is_there(pipe: &Receiver, chunk: &Chunk, log: &Mutex<WorkerLog>) -> Pipe {
    let mut chunk = chunk.lock().unwrap_or_else(PoisonError::into_inner);
    match pipe.try_read(&mut chunk) {
        Ok(0) => Pipe::Ended,
        Ok(length) => {
            log.lock().unwrap_or_else(PoisonError::into_inner).write(&chunk[..length]);
            Pipe::Open
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Pipe::Open,
        Err(_) => Pipe::Ended,
    }
}
