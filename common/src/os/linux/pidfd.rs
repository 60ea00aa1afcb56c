//! pidfds: descriptors that refer to one process, even after its pid is reused.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::procfs;
use crate::os::lookup::CannotLook;
use crate::os::process_data::Process;

/// A pidfd of a process whose start time was compared.
#[derive(Debug)]
pub struct PidDescriptor(OwnedFd);

/// It becomes readable when the process exits, pidfd_open(2).
impl From<PidDescriptor> for OwnedFd {
    fn from(descriptor: PidDescriptor) -> Self {
        descriptor.0
    }
}

/// The result of opening a pidfd.
pub enum Opened {
    /// The descriptor refers to the process that was read.
    Held(PidDescriptor),
    /// That process is gone; its pid may have been reused.
    Gone,
    /// Whether it is still that process can't be read.
    Unknown(CannotLook),
    /// The kernel grants no pidfd.
    Refused,
}

impl PidDescriptor {
    /// Opens one for exactly the process that was read.
    pub fn open(process: &Process) -> Opened {
        let Some(pid) = rustix::process::Pid::from_raw(process.pid.get()) else { return Opened::Gone };
        let descriptor = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::SRCH) => return Opened::Gone,
            Err(_) => return Opened::Refused,
        };
        // Compared after the open: the pid may have been reused between the first read and the open. From
        // here on the descriptor refers to the same process.
        match procfs::read(process.pid) {
            Ok(Some(now)) if now.start == process.start => Opened::Held(Self(descriptor)),
            Ok(_) => Opened::Gone,
            Err(error) => Opened::Unknown(error),
        }
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.0, signal)
    }

    /// Waits until it has exited, at most this long; returns whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            let mut entry = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut entry, left.as_ref()) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}
