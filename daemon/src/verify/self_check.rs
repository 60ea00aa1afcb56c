//! Compares what the daemon itself has open at the end with the start (R-VER-4).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mcpd_common::os::this_process;
use mcpd_common::outcome::{Finding, FindingKind, OwnReport};

use crate::deadline::{self, Deadline};

/// Limit for descriptors that are about to be closed.
const CLOSE_LIMIT: Duration = Duration::from_millis(250);
/// Poll interval.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Descriptors that may be open at the end: connections of clients that follow the shutdown.
#[derive(Clone, Default)]
pub struct ExpectedDescriptors(Arc<Mutex<HashSet<i32>>>);

impl ExpectedDescriptors {
    pub fn opened(&self, descriptor: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(descriptor);
    }

    pub fn closed(&self, descriptor: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&descriptor);
    }

    fn contains(&self, descriptor: i32) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&descriptor)
    }
}

/// What was open after boot.
pub struct Baseline {
    descriptors: HashSet<(i32, String)>,
    threads: u32,
    expected: ExpectedDescriptors,
}

impl Baseline {
    /// Records what is open now.
    pub fn take(expected: ExpectedDescriptors) -> Self {
        let descriptors = descriptors().into_iter().collect();
        Self { descriptors, threads: count(&this_process::threads()), expected }
    }

    /// What is open now and was not at the start. A descriptor that is about to be closed (a read of `/proc`
    /// on another thread, the end of a response) is not a leak: a leak stays open.
    pub async fn compare(&self, deadline: Deadline) -> OwnReport {
        let limit = deadline.at_most(CLOSE_LIMIT);
        let mut report = self.read();
        while !report.leaked.is_empty() && !limit.remaining().is_zero() {
            deadline::until(deadline::now() + POLL_INTERVAL).await;
            let again = self.read();
            let leaked = report.leaked.into_iter().filter(|it| again.leaked.contains(it)).collect();
            report = OwnReport { leaked, ..again };
        }
        report
    }

    fn read(&self) -> OwnReport {
        let now = descriptors();
        let leaked = now.iter().filter(|descriptor| {
            !self.descriptors.contains(descriptor) && !self.expected.contains(descriptor.0)
        });
        OwnReport {
            descriptors_start: u32::try_from(self.descriptors.len()).unwrap_or(u32::MAX),
            descriptors_end: count(&now),
            threads_start: self.threads,
            threads_end: count(&this_process::threads()),
            leaked: leaked.map(|(number, target)| format!("{number} -> {target}")).collect(),
        }
    }
}

/// Our own descriptors. A file that was deleted, or a terminal that was closed, is still the same one.
fn descriptors() -> Vec<(i32, String)> {
    let mut descriptors = this_process::descriptors();
    for (_, target) in &mut descriptors {
        target.truncate(target.trim_end_matches(" (deleted)").len());
    }
    descriptors
}

/// A leak is information for users, and an error in mcpd's own tests.
pub fn finding(own: &OwnReport) -> Option<Finding> {
    let detail = format!("opened since the start and still open: {}", own.leaked.join(", "));
    (!own.leaked.is_empty()).then(|| Finding::new(FindingKind::Information, "mcpd", detail))
}

pub fn evidence(own: &OwnReport) -> String {
    let OwnReport { descriptors_start, descriptors_end, threads_start, threads_end, .. } = own;
    format!("descriptors {descriptors_start} -> {descriptors_end}, threads {threads_start} -> {threads_end}")
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-VER-4: a descriptor that stays open is reported, one that is about to be closed is not.
    #[tokio::test]
    async fn a_leak_is_what_stays_open() {
        let baseline = Baseline::take(ExpectedDescriptors::default());
        let open = || tempfile::tempfile().expect("a file");
        let kept = open();
        let closing = open();
        let number = |file: &std::fs::File| format!("{} -> ", std::os::fd::AsRawFd::as_raw_fd(file));
        let kept_number = number(&kept);
        let closing_number = number(&closing);
        let looking = baseline.compare(Deadline::after(CLOSE_LIMIT));
        let closed = async {
            deadline::until(deadline::now() + POLL_INTERVAL).await;
            drop(closing);
        };
        let (report, ()) = tokio::join!(looking, closed);
        let named = |number: &str| report.leaked.iter().any(|leak| leak.starts_with(number));
        assert!(named(&kept_number) && !named(&closing_number), "{:?}", report.leaked);
        drop(kept);
    }

    /// A log or a terminal that is deleted while the daemon has it open was not opened by then.
    #[tokio::test]
    async fn a_deleted_file_is_no_leak() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let open = file.reopen().expect("readable");
        let baseline = Baseline::take(ExpectedDescriptors::default());
        drop(file);
        let report = baseline.compare(Deadline::after(CLOSE_LIMIT)).await;
        let number = format!("{} -> ", std::os::fd::AsRawFd::as_raw_fd(&open));
        assert!(report.leaked.iter().all(|leak| !leak.starts_with(&number)), "{:?}", report.leaked);
    }
}
