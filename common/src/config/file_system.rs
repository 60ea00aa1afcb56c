//! Looks into the file system for a limited time: a dead network mount answers never, and one bad mount must not keep
//! the daemon from starting the other workers.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
    let started = thread::Builder::new().name("mcpd-look".into()).spawn(move || {
        // Nobody waits any more if it was too slow.
        let _ = sender.send(look());
    });
    started.ok()?;
    receiver.recv_timeout(LIMIT).ok()
}
