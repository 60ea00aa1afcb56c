//! Waiting for the end of a process, to the microsecond.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mcpd_common::ids::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

/// Nothing that is measured may take longer.
pub const LONGEST: Duration = Duration::from_secs(90);

/// A child that is not reaped yet; its exit is awaited.
pub struct Watch(OwnedFd);

impl Watch {
    /// On a child of ours.
    pub fn on(pid: Pid) -> Self {
        let pid = rustix::process::Pid::from_raw(pid.get()).expect("a child's pid is positive");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("a child that was not waited for has a pidfd"))
    }

    /// On this one.
    pub fn on_child(child: &std::process::Child) -> Self {
        Self::on(Pid::new(child.id().cast_signed()).expect("a child's pid is positive"))
    }

    /// Waits for the end.
    pub fn wait(self) {
        let end = Instant::now() + LONGEST;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "a process runs still after {LONGEST:?}");
            let mut entry = [PollFd::new(&self.0, PollFlags::IN)];
            // An interrupted wait is begun again with what is left of the time.
            if poll(&mut entry, Timespec::try_from(left).ok().as_ref()).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }
}

/// As the table counts time.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
