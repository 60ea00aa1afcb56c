//! The daemon's side: what it tells its guardian, and how it learns that it has none any more.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::child::Signal;
use mcpd_common::os::guardian;
use tokio::io::AsyncReadExt;

use super::page::{Details, Page};

/// The daemon as its guardian's guardian link.
pub struct GuardianLink {
    page: Page,
    line: UnixStream,
    guardian: Pid,
}

impl GuardianLink {
    pub(super) fn new(page: Page, line: UnixStream, guardian: Pid) -> Self {
        Self { page, line, guardian }
    }

    /// The guardian's process.
    pub fn guardian(&self) -> Pid {
        self.guardian
    }

    /// A shutdown has begun: past this the guardian ends it.
    pub fn set_bound(&self, bound: Duration) {
        self.page.set_bound(Some(bound));
        // The byte wakes the guardian, which then reads the page. A guardian that has exited needs no byte.
        let _ = (&self.line).write(&[0]);
    }

    /// All is done, and this process exits with this code. What comes after is no crash.
    pub fn complete(&self, code: u8) {
        self.page.complete(code);
    }

    /// Whether the guardian has ended.
    pub fn is_orphan(&self) -> bool {
        guardian::parent() != Some(self.guardian)
    }

    /// Listens for the guardian's end: the other end of the line is its alone. The future returns then.
    ///
    /// # Errors
    /// When the line can't be listened to.
    pub fn orphaned(&self) -> io::Result<impl Future<Output = ()> + Send + 'static> {
        let line = self.line.try_clone()?;
        line.set_nonblocking(true)?;
        let mut line = tokio::net::UnixStream::from_std(line)?;
        Ok(async move {
            let mut byte = [0];
            // It never writes; whatever is not "nothing yet" is its end.
            while line.read(&mut byte).await.is_ok_and(|length| length > 0) {}
        })
    }

    /// Says what the guardian needs, if it has to act.
    ///
    /// # Errors
    /// When it does not fit the page.
    pub fn publish(&self, details: &Details) -> io::Result<()> {
        self.page.publish(details)
    }

    /// Descriptors of page and line, for another program in this process.
    ///
    /// # Errors
    /// When there are none left.
    pub fn descriptors(&self) -> io::Result<[OwnedFd; 2]> {
        Ok([self.page.descriptor()?, self.line.try_clone()?.into()])
    }

    /// The guardian link of the same guardian, in a new program: what [`Self::descriptors`] gave.
    ///
    /// # Errors
    /// When they are something else.
    pub fn adopt([page, line]: [OwnedFd; 2]) -> io::Result<Self> {
        let guardian = guardian::parent().ok_or_else(|| io::Error::other("this process has no parent"))?;
        guardian::die_with_parent(Signal::Term)?;
        let guardian_link = Self { page: Page::adopt(page)?, line: line.into(), guardian };
        // The shutdown that went before the new program is over.
        guardian_link.page.set_bound(None);
        Ok(guardian_link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLIENT-7: page and line survive a change of program, and mean the same guardian.
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
