//! The messages of a child between fork and exec, through a pipe that exec closes.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};

/// What a child was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Prepare = 1,
    Directory = 2,
    Exec = 3,
}

#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) error: io::Error,
}

#[derive(Debug)]
pub(super) enum Message {
    /// What needs no file system is done.
    Prepared,
    Failed(Failure),
    /// The child executed its program, or was killed.
    Closed,
}

/// The number of a step, or 0 for "prepared", and an error number.
pub(super) const MESSAGE_SIZE: usize = 5;
const PREPARED: u8 = 0;

/// A message as bytes; it allocates nothing.
pub(super) fn encode(step: Option<Step>, errno: i32) -> [u8; MESSAGE_SIZE] {
    let [a, b, c, d] = errno.to_ne_bytes();
    [step.map_or(PREPARED, |step| step as u8), a, b, c, d]
}

fn decode(bytes: [u8; MESSAGE_SIZE]) -> Message {
    let [step, errno @ ..] = bytes;
    let step = match step {
        PREPARED => return Message::Prepared,
        1 => Step::Prepare,
        2 => Step::Directory,
        _ => Step::Exec,
    };
    Message::Failed(Failure { step, error: io::Error::from_raw_os_error(i32::from_ne_bytes(errno)) })
}

/// The end that the parent reads.
#[derive(Debug)]
pub(super) struct Report(OwnedFd);

impl Report {
    /// The end to read and the end to write.
    pub(super) fn pipe() -> io::Result<(Self, OwnedFd)> {
        let (read, write) = io::pipe()?;
        Ok((Self(read.into()), write.into()))
    }

    /// The next message; `None` if there is none within this time.
    pub(super) fn next(&self, timeout: Duration) -> Option<Message> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return None,
                Ok(_) => return Some(self.read()),
                Err(Errno::INTR) => {}
                // The kernel is out of memory: nothing is known yet.
                Err(_) => return None,
            }
        }
    }

    /// A message is written at once (pipe(7)), so it is never read in parts.
    fn read(&self) -> Message {
        let mut bytes = [0; MESSAGE_SIZE];
        match rustix::io::retry_on_intr(|| read(&self.0, &mut bytes)) {
            Ok(MESSAGE_SIZE) => decode(bytes),
            Ok(_) | Err(_) => Message::Closed,
        }
    }
}
