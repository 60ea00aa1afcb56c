//! Lines on their way to a server's standard input.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

/// Requests wait while the server is behind by this many bytes.
const AHEAD: usize = 256 * 1024;

pub struct Input {
    state: Mutex<State>,
    /// There is something to write, or the end.
    more: Notify,
    /// There is room, or the end.
    room: Notify,
}

struct State {
    /// `None` after the end.
    pipe: Option<Arc<Sender>>,
    lines: VecDeque<Vec<u8>>,
    /// Of the first line.
    written: usize,
    /// In `lines`, in bytes.
    waiting: usize,
}

/// The server reads nothing more.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Input {
    pub fn new(pipe: Sender) -> Self {
        let state = State { pipe: Some(Arc::new(pipe)), lines: VecDeque::new(), written: 0, waiting: 0 };
        Self { state: Mutex::new(state), more: Notify::new(), room: Notify::new() }
    }

    /// Sends a line; waits while the server is too far behind.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub async fn send(&self, line: Vec<u8>) -> Result<(), Closed> {
        loop {
            let room = self.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            if self.state().waiting < AHEAD {
                return self.push(line);
            }
            room.await;
        }
    }

    /// The same for what is short and must not wait.
    ///
    /// # Errors
    /// When nothing can be sent any more.
    pub fn push(&self, mut line: Vec<u8>) -> Result<(), Closed> {
        line.push(b'\n');
        let mut state = self.state();
        if state.pipe.is_none() {
            return Err(Closed);
        }
        let was_empty = state.lines.is_empty();
        state.waiting += line.len();
        state.lines.push_back(line);
        // Nearly always the pipe takes all at once, and no other task has to wake.
        if was_empty && self.write_now(&mut state).is_ok_and(|()| !state.lines.is_empty()) {
            self.more.notify_one();
        }
        if state.pipe.is_some() { Ok(()) } else { Err(Closed) }
    }

    /// The same for the answer to the server itself: it is lost while the server is too far behind.
    pub fn offer(&self, line: Vec<u8>) {
        if self.state().waiting < AHEAD {
            // Nothing answers a server that is gone.
            let _ = self.push(line);
        }
    }

    /// Writes what [`push`](Self::push) left, until the end.
    pub async fn write(&self) {
        loop {
            let Some((pipe, is_empty)) = self.pipe() else { return };
            if is_empty {
                self.more.notified().await;
                continue;
            }
            tokio::select! {
                writable = pipe.writable() => if writable.is_err() { return self.close() },
                () = self.more.notified() => {}
            }
            let mut state = self.state();
            // An error has closed it.
            let _ = self.write_now(&mut state);
        }
    }

    /// The end of the server's input. What it has not taken is dropped.
    pub fn close(&self) {
        Self::end(&mut self.state());
        self.more.notify_one();
        self.room.notify_waiters();
    }

    fn write_now(&self, state: &mut State) -> io::Result<()> {
        let State { pipe: Some(pipe), lines, written, waiting } = state else { return Ok(()) };
        while let Some(line) = lines.front() {
            match pipe.try_write(&line[*written..]) {
                Ok(more) => *written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    Self::end(state);
                    self.room.notify_waiters();
                    return Err(error);
                }
            }
            if *written == line.len() {
                *waiting -= line.len();
                *written = 0;
                lines.pop_front();
            }
        }
        if *waiting < AHEAD {
            self.room.notify_waiters();
        }
        Ok(())
    }

    fn end(state: &mut State) {
        state.pipe = None;
        state.lines = VecDeque::new();
        (state.written, state.waiting) = (0, 0);
    }

    fn pipe(&self) -> Option<(Arc<Sender>, bool)> {
        let state = self.state();
        Some((state.pipe.clone()?, state.lines.is_empty()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadline;
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe;

    #[tokio::test]
    async fn a_server_that_does_not_read_holds_requests_and_no_memory() {
        let (sender, mut receiver) = pipe::pipe().expect("a pipe");
        let input = Arc::new(Input::new(sender));
        let writer = tokio::spawn({
            let input = input.clone();
            async move { input.write().await }
        });
        let line = vec![b'x'; 10_000];
        let mut sent = 0;
        while Deadline::after(Duration::from_millis(200)).wait(input.send(line.clone())).await.is_ok() {
            sent += 1;
        }
        assert!(sent * line.len() < AHEAD + 100_000, "{sent} lines: the pipe has 64 KiB");
        let mut got = vec![0; sent * (line.len() + 1)];
        receiver.read_exact(&mut got).await.expect("all of it");
        assert!(got.chunks(line.len() + 1).all(|line| line.ends_with(b"x\n")));
        input.send(line.clone()).await.expect("there is room again");
        input.close();
        writer.await.expect("it ends");
        assert_eq!(input.send(line).await, Err(Closed));
    }

    #[tokio::test]
    async fn requests_that_wait_are_told_of_the_end() {
        let (sender, receiver) = pipe::pipe().expect("a pipe");
        let input = Arc::new(Input::new(sender));
        input.push(vec![b'x'; 2 * AHEAD]).expect("open");
        let behind = input.state().waiting;
        input.offer(b"lost".to_vec());
        assert_eq!(input.state().waiting, behind);
        let waiting = tokio::spawn({
            let input = input.clone();
            async move { input.send(vec![]).await }
        });
        let writer = tokio::spawn({
            let input = input.clone();
            async move { input.write().await }
        });
        drop(receiver);
        let limit = Deadline::after(Duration::from_secs(20));
        assert_eq!(limit.wait(waiting).await.expect("in time").expect("no panic"), Err(Closed));
        limit.wait(writer).await.expect("in time").expect("no panic");
    }
}
