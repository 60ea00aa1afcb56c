//! Writes the logs of all workers on a thread of its own, so that a disk that hangs stops no worker.
//!
//! ```text
//!   drain (output.rs) --Chunk, at most MAX_PENDING bytes--> this thread --> WorkerLog
//! ```

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use mcpd_common::ids::WorkerName;
use mcpd_common::paths;
use tokio::sync::{Notify, oneshot};

use super::worker_log::WorkerLog;
use crate::deadline::Deadline;

/// Output that waits for the disk, in bytes, of all workers together.
const MAX_PENDING: usize = 1024 * 1024;
/// How long a worker's output waits for the disk before it is dropped. While the disk hangs nothing waits.
const DISK_WAIT: Duration = Duration::from_secs(1);

enum LogCommand {
    Write(WorkerName, Vec<u8>),
    Dropped(WorkerName, u64),
    Close(oneshot::Sender<()>),
}

/// Sends output to the thread. Cloning it is cheap.
#[derive(Clone)]
pub struct LogWriter {
    commands: mpsc::Sender<LogCommand>,
    backlog: Arc<Backlog>,
}

#[derive(Default)]
struct Backlog {
    bytes: AtomicUsize,
    /// Notified when bytes were written.
    written: Notify,
    /// How often bytes were dropped since the last write: nothing is waited for in a row.
    dropped_in_a_row: AtomicUsize,
}

impl LogWriter {
    /// Starts the thread. Logs go to `log_dir/workers`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(log_dir: PathBuf) -> io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let backlog = Arc::<Backlog>::default();
        let written = backlog.clone();
        std::thread::Builder::new()
            .name("mcpd-logs".into())
            .spawn(move || write_all(&log_dir, &received, &written))?;
        Ok(Self { commands, backlog })
    }

    /// Appends to the worker's log; drops the bytes if the disk is too slow.
    pub async fn write(&self, worker: &WorkerName, bytes: Vec<u8>) {
        let command = if self.has_room(size_of_chunk(&bytes)).await {
            self.backlog.bytes.fetch_add(size_of_chunk(&bytes), Ordering::AcqRel);
            LogCommand::Write(worker.clone(), bytes)
        } else {
            LogCommand::Dropped(worker.clone(), bytes.len() as u64)
        };
        // A thread that has ended has closed its logs.
        let _ = self.commands.send(command);
    }

    /// Writes what is pending and closes the logs.
    ///
    /// # Errors
    /// When that is not done before the deadline.
    pub async fn close(&self, deadline: Deadline) -> Result<(), String> {
        let (sender, closed) = oneshot::channel();
        let _ = self.commands.send(LogCommand::Close(sender));
        match deadline.wait(closed).await {
            Ok(_) => Ok(()),
            Err(elapsed) => Err(format!("the workers' logs could not be written: {elapsed}")),
        }
    }

    async fn has_room(&self, size: usize) -> bool {
        let limit = match self.backlog.dropped_in_a_row.load(Ordering::Acquire) {
            0 => DISK_WAIT,
            _ => Duration::ZERO,
        };
        let deadline = Deadline::after(limit);
        loop {
            let mut written = std::pin::pin!(self.backlog.written.notified());
            // Registered before the size is read, so that no notification is missed.
            written.as_mut().enable();
            let pending = self.backlog.bytes.load(Ordering::Acquire);
            if pending == 0 || pending + size <= MAX_PENDING {
                return true;
            }
            if deadline.remaining().is_zero() || deadline.wait(written).await.is_err() {
                self.backlog.dropped_in_a_row.fetch_add(1, Ordering::AcqRel);
                return false;
            }
        }
    }
}

/// With what the queue needs for it, because output may come in single bytes.
fn size_of_chunk(bytes: &[u8]) -> usize {
    const OVERHEAD: usize = 128;
    bytes.len() + OVERHEAD
}

fn write_all(log_dir: &Path, commands: &mpsc::Receiver<LogCommand>, backlog: &Backlog) {
    let mut logs: HashMap<WorkerName, WorkerLog> = HashMap::new();
    let mut log = |worker: WorkerName, write: &dyn Fn(&mut WorkerLog)| {
        let path = paths::worker_log(log_dir, &worker);
        write(logs.entry(worker).or_insert_with(|| WorkerLog::new(path)));
    };
    while let Ok(command) = commands.recv() {
        match command {
            LogCommand::Write(worker, bytes) => {
                log(worker, &|log| log.write(&bytes));
                backlog.bytes.fetch_sub(size_of_chunk(&bytes), Ordering::AcqRel);
                backlog.dropped_in_a_row.store(0, Ordering::Release);
                backlog.written.notify_waiters();
            }
            LogCommand::Dropped(worker, bytes) => log(worker, &|log| log.add_dropped(bytes)),
            LogCommand::Close(reply) => {
                drop(logs);
                // The caller may have stopped waiting.
                let _ = reply.send(());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn name(text: &str) -> WorkerName {
        text.parse().expect("a name")
    }

    /// A writer, and the log of `hanging`: a named pipe, whose opening hangs until it has a reader.
    fn with_hanging_log(directory: &Path) -> (LogWriter, PathBuf) {
        std::fs::create_dir(directory.join("workers")).expect("made");
        let hanging = directory.join("workers/hanging.log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &hanging, rustix::fs::Mode::RWXU).expect("made");
        (LogWriter::start(directory.to_owned()).expect("a thread"), hanging)
    }

    /// R-LOG-7: one log that hangs delays no other worker for long, and takes no memory.
    #[tokio::test]
    async fn a_log_that_hangs_stops_no_worker() {
        let directory = tempfile::tempdir().expect("a directory");
        let (writer, hanging) = with_hanging_log(directory.path());
        let chunk = vec![b'x'; 64 * 1024];
        let many = async {
            for _ in 0..1000 {
                writer.write(&name("hanging"), chunk.clone()).await;
            }
        };
        Deadline::after(Duration::from_secs(30)).wait(many).await.expect("it does not hang");
        assert!(writer.backlog.bytes.load(Ordering::Acquire) <= MAX_PENDING);
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            std::fs::File::open(hanging).and_then(|mut file| file.read_to_end(&mut read)).map(|_| read.len())
        });
        writer.write(&name("other"), b"text".to_vec()).await;
        writer.close(Deadline::after(Duration::from_secs(30))).await.expect("closed");
        let read = reader.join().expect("no panic").expect("readable");
        assert!(0 < read && read <= MAX_PENDING, "{read}");
    }

    /// A shutdown does not wait for a disk that hangs, and says so.
    #[tokio::test]
    async fn logs_that_can_not_be_written_in_time_are_reported() {
        let directory = tempfile::tempdir().expect("a directory");
        let (writer, hanging) = with_hanging_log(directory.path());
        writer.write(&name("hanging"), b"text".to_vec()).await;
        let error = writer.close(Deadline::after(Duration::from_millis(50))).await.expect_err("it hangs");
        assert_eq!(error, "the workers' logs could not be written: not done in time");
        assert_eq!(std::fs::read(hanging).expect("readable"), b"text", "written when the disk responds");
    }
}
