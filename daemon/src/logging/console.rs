//! The console: a thread writes to it, so that a stopped terminal or a full pipe blocks nothing else (R-LOG-7).
//!
//! ```text
//!   any thread --queue, bounded--> thread "mcpd-console" --> standard error
//! ```
//!
//! Lines that do not fit into the queue are lost and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tokio::sync::oneshot;
use tracing_subscriber::fmt::MakeWriter;

use crate::deadline::Deadline;

/// Lines that may wait for a console that does not read.
const MAX_QUEUED_LINES: usize = 4096;

/// Writes lines without ever waiting. Cloning it is cheap.
#[derive(Clone)]
pub struct Console {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

impl Console {
    /// Starts the thread that writes to a duplicate of this descriptor.
    ///
    /// # Errors
    /// When no descriptor or no thread is available.
    pub fn start(output: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(output.try_clone_to_owned()?);
        let (queue, messages) = sync_channel(MAX_QUEUED_LINES);
        let console = Self { queue, lost: Arc::default() };
        let lost = console.lost.clone();
        thread::Builder::new()
            .name("mcpd-console".to_owned())
            .spawn(move || write_all(file, &messages, &lost))?;
        Ok(console)
    }

    /// Queues a line, or counts it as lost.
    pub fn write(&self, line: &[u8]) {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines lost so far, because the console did not read.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until the queued lines are written, at most until the deadline.
    pub async fn flush(&self, deadline: Deadline) {
        let (reply, written) = oneshot::channel();
        if self.queue.try_send(Message::Flush(reply)).is_ok() {
            let _ = deadline.wait(written).await;
        }
    }
}

/// A console that is closed or fails takes no more lines, and nothing depends on it.
fn write_all(mut file: File, messages: &Receiver<Message>, lost: &AtomicU64) {
    let mut reported = 0;
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line) => drop(file.write_all(&line)),
            Message::Flush(reply) => drop(reply.send(())),
        }
        let now = lost.load(Ordering::Relaxed);
        if now > reported {
            let text = format!("mcpd: {} lines were lost: the console did not read them\n", now - reported);
            let _ = file.write_all(super::error_text(&text).as_bytes());
            reported = now;
        }
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = &'a Console;

    fn make_writer(&'a self) -> &'a Console {
        self
    }
}

/// The formatter writes each event with one call.
impl Write for &Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Console::write(self, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a text to standard output from a thread of its own, for which nothing waits.
pub fn print(text: String) {
    // Past the lock of `io::stdout`, which would block other writers, and without a descriptor of its own.
    let print = move || {
        let stdout = io::stdout();
        let mut rest = text.as_bytes();
        while let Ok(written @ 1..) = rustix::io::write(stdout.as_fd(), rest) {
            rest = &rest[written..];
        }
    };
    // Without a thread the text is lost; `mcpctl status` shows the same.
    let _ = thread::Builder::new().name("mcpd-banner".to_owned()).spawn(print);
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    #[tokio::test]
    async fn lines_arrive_in_order() {
        let (mut read, write) = io::pipe().expect("a pipe");
        let console = Console::start(write.as_fd()).expect("started");
        drop(write);
        for number in 0..100 {
            console.write(format!("{number}\n").as_bytes());
        }
        console.flush(soon()).await;
        drop(console);
        let mut text = String::new();
        read.read_to_string(&mut text).expect("readable");
        assert_eq!(text, (0..100).map(|number| format!("{number}\n")).collect::<String>());
    }

    /// R-LOG-7.
    #[tokio::test]
    async fn a_console_that_does_not_read_costs_lines_and_no_time() {
        let (mut read, write) = io::pipe().expect("a pipe");
        let console = Console::start(write.as_fd()).expect("started");
        drop(write);
        // More than the pipe and the queue hold.
        let line = [b'x'; 1024];
        for _ in 0..2 * MAX_QUEUED_LINES {
            console.write(&line);
        }
        let lost = console.lost();
        assert!(lost > 0, "the queue is bounded");
        console.flush(Deadline::after(Duration::from_millis(20))).await;
        // When it is read again, it says how much is missing, perhaps in several lines.
        let reader = thread::spawn(move || {
            let mut text = String::new();
            read.read_to_string(&mut text).map(|_| text).expect("readable")
        });
        drop(console);
        let text = reader.join().expect("read");
        let reports =
            text.lines().filter_map(|line| line.rsplit_once("mcpd: ")?.1.split_once(" lines were lost"));
        let reported: u64 = reports.map(|(number, _)| number.parse::<u64>().expect("a number")).sum();
        assert_eq!(reported, lost);
    }
}
