//! A reference to a process where the kernel offers no pidfd.

use std::thread;
use std::time::{Duration, Instant};

use super::{Delivery, Signal, signal_child};
use crate::ids::Pid;
use crate::os::lookup::CannotLook;
use crate::os::process_data::{Process, StartTime};
use crate::os::{portable, system};

/// Interval between two reads while waiting for an exit.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A process by pid and start time, which are compared again right before each use. Between the comparison
/// and the signal it can still exit and its pid be reused: best effort, the system offers no better.
#[derive(Debug)]
pub struct Identity {
    pid: Pid,
    start: StartTime,
}

impl Identity {
    /// The process that was read; `None` if it is gone.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn open(process: &Process) -> Result<Option<Self>, CannotLook> {
        let identity = Self { pid: process.pid, start: process.start };
        Ok(identity.read()?.is_some().then_some(identity))
    }

    fn read(&self) -> Result<Option<Process>, CannotLook> {
        Ok(system::read(self.pid)?.filter(|now| now.start == self.start))
    }

    /// Sends it a signal, if it is certain that the pid still means the same process.
    pub fn signal(&self, signal: Signal) -> Delivery {
        match self.read() {
            Ok(Some(_)) => signal_child(self.pid, signal),
            Ok(None) => Delivery::Gone,
            Err(_) => Delivery::CannotLook,
        }
    }

    /// Whether it runs; also if that can't be read now.
    pub fn is_alive(&self) -> bool {
        match self.read() {
            Ok(now) => now.is_some_and(|now| now.state != 'X' && !portable::is_zombie(&now)),
            Err(_) => true,
        }
    }

    /// Waits until it has exited, at most this long; returns whether it has.
    pub fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(POLL_INTERVAL));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn an_identity_never_refers_to_another_process() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep(1)");
        let pid = Pid::new(child.id().cast_signed()).expect("positive");
        let process = system::read(pid).expect("readable").expect("it runs");
        let mut other = process.clone();
        other.start.0 += 1;
        assert!(Identity::open(&other).is_ok_and(|found| found.is_none()));
        let identity = Identity::open(&process).expect("readable").expect("it runs");
        assert!(identity.is_alive());
        assert!(!identity.wait(Duration::from_millis(1)));
        assert_eq!(identity.signal(Signal::Kill), Delivery::Sent);
        assert!(identity.wait(Duration::from_secs(10)), "a zombie has exited");
        child.wait().expect("our child");
        assert_eq!(identity.signal(Signal::Kill), Delivery::Gone);
    }
}
