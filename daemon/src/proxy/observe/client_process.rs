//! The process of a client, which is on the same machine.

use std::os::fd::OwnedFd;
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::child::Handle;
use mcpd_common::os::process::{self, Process, StartTime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::deadline;

/// Interval of looking where the kernel does not report the exit.
const INTERVAL: Duration = Duration::from_secs(3);

/// A process by its pid and start time: a pid may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientProcess {
    pub pid: Pid,
    pub start: StartTime,
}

/// How an exit is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// By a descriptor, where the kernel offers one.
    Descriptor,
    /// By looking now and then.
    Interval,
}

impl ClientProcess {
    /// The process with this pid; `None` if it can't be read.
    pub fn of(pid: Pid) -> Option<Self> {
        process::best_effort::read(pid).map(|process| Self { pid, start: process.start })
    }

    /// Completes when it has exited.
    pub async fn exit(self, notice: Notice) {
        if notice == Notice::Descriptor
            && let Some(descriptor) = self.exit_descriptor()
            && descriptor.readable().await.is_ok()
        {
            return;
        }
        while self.is_running() {
            deadline::until(deadline::next_beat(deadline::now(), INTERVAL)).await;
        }
    }

    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, because the descriptor of other types may change"
    )]
    fn exit_descriptor(self) -> Option<AsyncFd<OwnedFd>> {
        let process = self.read()?;
        let descriptor = Handle::open(&process).ok()??.into_exit_descriptor()?;
        AsyncFd::with_interest(descriptor, Interest::READABLE).ok()
    }

    fn read(self) -> Option<Process> {
        process::best_effort::read(self.pid).filter(|found| found.start == self.start)
    }

    /// Whether it has not exited, as far as the kernel can be asked now.
    pub fn is_running(self) -> bool {
        match process::read(self.pid) {
            Ok(found) => found.is_some_and(|found| found.start == self.start && !process::is_zombie(&found)),
            Err(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline::Deadline;

    #[tokio::test]
    async fn the_exit_of_a_process_is_noticed() {
        for notice in [Notice::Descriptor, Notice::Interval] {
            let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
            let pid = Pid::new(child.id().try_into().expect("a pid")).expect("a pid");
            let process = ClientProcess::of(pid).expect("it runs");
            let soon = || Deadline::after(Duration::from_millis(50));
            assert!(soon().wait(process.exit(notice)).await.is_err(), "{notice:?}: it runs");
            child.kill().expect("killed");
            let limit = Deadline::after(Duration::from_secs(20));
            assert!(limit.wait(process.exit(notice)).await.is_ok(), "{notice:?}: a zombie has exited");
            child.wait().expect("reaped");
        }
    }

    #[tokio::test]
    async fn a_process_with_a_pid_that_was_used_again_has_exited() {
        let own = ClientProcess::of(Pid::current()).expect("this process");
        let earlier = ClientProcess { start: StartTime(own.start.0 + 1), ..own };
        assert!(own.is_running() && !earlier.is_running());
        let limit = || Deadline::after(Duration::from_secs(20));
        assert!(limit().wait(earlier.exit(Notice::Descriptor)).await.is_ok());
        assert!(limit().wait(earlier.exit(Notice::Interval)).await.is_ok());
    }
}
