//! The daemon's side of the link: publishes to the guardian, and notices its exit.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::child::Signal;
use mcpd_common::os::guardian;
use tokio::io::AsyncReadExt;

use super::page::{Details, Page};

pub struct GuardianLink {
    page: Page,
    line: UnixStream,
    guardian: Pid,
}

impl GuardianLink {
    pub(super) fn new(page: Page, line: UnixStream, guardian: Pid) -> Self {
        Self { page, line, guardian }
    }

    /// The guardian's pid.
    pub fn guardian(&self) -> Pid {
        self.guardian
    }

    /// A shutdown has begun: past this bound the guardian kills the daemon.
    pub fn set_bound(&self, bound: Duration) {
        self.page.set_bound(Some(bound));
        // The byte wakes the guardian, which then reads the page. A guardian that has exited needs no byte.
        let _ = (&self.line).write(&[0]);
    }

    /// Marks the run as completed with this exit code: an exit from now on is not a crash.
    pub fn complete(&self, code: u8) {
        self.page.complete(code);
    }

    /// Whether the guardian has exited.
    pub fn is_orphan(&self) -> bool {
        guardian::parent() != Some(self.guardian)
    }

    /// Completes when the guardian exits: only the guardian has the other end of the socket pair.
    ///
    /// # Errors
    /// When the socket can't be registered with the runtime.
    pub fn orphaned(&self) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let line = self.line.try_clone()?;
        line.set_nonblocking(true)?;
        let mut line = tokio::net::UnixStream::from_std(line)?;
        Ok(async move {
            let mut byte = [0];
            // The guardian never writes: any result but "would block" means that it exited.
            while line.read(&mut byte).await.is_ok_and(|length| length > 0) {}
        })
    }

    /// Publishes what the guardian needs for a cleanup.
    ///
    /// # Errors
    /// When it does not fit into the page.
    pub fn publish(&self, details: &Details) -> io::Result<()> {
        self.page.publish(details)
    }

    /// Descriptors of page and socket, for the next program in this process.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn descriptors(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.page.descriptor()?, self.line.try_clone()?.into()])
    }

    /// Adopts the descriptors of [`Self::descriptors`] in the next program.
    ///
    /// # Errors
    /// When they are not a page and a socket.
    pub fn adopt([page, line]: [OwnedFd; 2]) -> io::Result<Self> {
        let guardian = guardian::parent().ok_or_else(|| io::Error::other("this process has no parent"))?;
        guardian::die_with_parent(Signal::Term)?;
        let guardian_link = Self { page: Page::adopt(page)?, line: line.into(), guardian };
        // The shutdown before the replacement is complete.
        guardian_link.page.set_bound(None);
        Ok(guardian_link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLIENT-7: page and socket survive the replacement, and belong to the same guardian.
    #[tokio::test]
    async fn page_and_line_can_be_handed_over() {
        let page = Page::new().expect("memory");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let guardian = guardian::parent().expect("a parent");
        let guardian_link = GuardianLink::new(page, theirs, guardian);
        guardian_link.set_bound(Duration::from_secs(9));
        let descriptors = guardian_link.descriptors().expect("handed over");
        drop(guardian_link);
        let guardian_link = GuardianLink::adopt(descriptors).expect("adopted");
        assert_eq!((guardian_link.guardian(), guardian_link.page.bound()), (guardian, None));
        assert!(!guardian_link.is_orphan());
        drop(ours);
        guardian_link.orphaned().expect("listened to").await;
    }
}
