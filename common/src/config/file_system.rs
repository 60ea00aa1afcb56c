//! Looks into the file system for a limited time: a dead network mount answers never, and one bad mount must not keep
//! the daemon from starting the other workers.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::os::guardian::LOOKUP_THREAD;

/// Limit for the checks of one worker while the configuration is read.
const LIMIT: Duration = Duration::from_secs(2);

/// Why a worker whose directory does not respond can't be started.
pub fn not_responding(repo: &Path) -> String {
    let repo = repo.display();
    format!("the file system of {repo} does not respond; if it is a network mount, check its server")
}

/// The result of `look`, which runs on a thread of its own; `None` if it takes longer than the limit. Then the thread
/// stays behind, because nothing can interrupt it.
pub(super) fn within_limit<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name(LOOKUP_THREAD.into());
    let started = thread.spawn(move || {
        // The caller may have stopped waiting.
        let _ = sender.send(look());
    });
    let thread = started.ok()?;
    let found = receiver.recv_timeout(LIMIT).ok()?;
    // It ends now. The daemon forks soon, and needs to be alone then.
    thread.join().ok()?;
    Some(found)
}
