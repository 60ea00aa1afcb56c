//! Waits for the exit of a process, precise to the microsecond.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mcpd_common::ids::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

/// Limit of each measurement.
pub const WAIT_LIMIT: Duration = Duration::from_secs(90);

/// A pidfd of an unreaped child.
pub struct Watch(OwnedFd);

impl Watch {
    /// A watch on a child of this process.
    pub fn on(pid: Pid) -> Self {
        let pid = rustix::process::Pid::from_raw(pid.get()).expect("a child's pid is positive");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("an unreaped child has a pidfd"))
    }

    /// A watch on this child.
    pub fn on_child(child: &std::process::Child) -> Self {
        Self::on(Pid::new(child.id().cast_signed()).expect("a child's pid is positive"))
    }

    /// Waits until the child exits.
    pub fn wait(self) {
        let end = Instant::now() + WAIT_LIMIT;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "a process is still running after {WAIT_LIMIT:?}");
            let mut entry = [PollFd::new(&self.0, PollFlags::IN)];
            // An interrupted wait is continued with the remaining time.
            if poll(&mut entry, Timespec::try_from(left).ok().as_ref()).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }
}

/// The time in milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
