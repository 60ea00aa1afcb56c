//! One daemon per state directory (R-LOG-6): the lock and its holder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_common::paths::{StateDir, durable, private_directory};
use rustix::fs::{FlockOperation, flock};

use crate::deadline::{self, Deadline};

/// Limit for a predecessor that is shutting down to release the lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts to take the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// In the lock file of a holder that is shutting down.
const LEAVING: &str = "leaving";

/// Why the state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error(
        "mcpd is already running here: {holder}\n\
         to serve another repository, add it to its configuration and restart it; \
         to run a second mcpd, give it a state directory of its own ([daemon] state_dir)"
    )]
    AlreadyRunning {
        /// The text of the lock file.
        holder: String,
    },
    #[error("can't use the state directory {}: {source}; make it writable or choose another ([daemon] state_dir)", path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

/// The lock, shared with the guardian: it is held until both processes have exited.
pub struct Instance {
    file: File,
}

impl Instance {
    /// Takes the lock, waiting for a predecessor that is shutting down or has just died; or keeps
    /// the lock that this process inherited.
    ///
    /// # Errors
    /// When another daemon holds it, or the directory can't be used.
    pub fn acquire(state: &StateDir, socket: &Path, inherited: Option<File>) -> Result<Self, InstanceError> {
        let unusable = |source| InstanceError::Unusable { path: state.path().to_owned(), source };
        private_directory::prepare(state.path()).map_err(unusable)?;
        // Locking an inherited lock again has no effect, flock(2).
        let mut file = match inherited {
            Some(file) => file,
            None => open(&state.lock()).map_err(unusable)?,
        };
        let limit = Deadline::after(LOCK_WAIT);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(unusable(error.into())),
            }
            let holder = read(&mut file).map_err(unusable)?;
            if !is_ending(&holder) || limit.remaining().is_zero() {
                return Err(InstanceError::AlreadyRunning { holder });
            }
            deadline::pause(POLL_INTERVAL);
        }
        // With the lock no other daemon writes here.
        durable::remove_leftovers(state.path());
        let mut instance = Self { file };
        let text = format!("pid {}, socket {}", Pid::current(), socket.display());
        instance.write(&text).map_err(unusable)?;
        Ok(instance)
    }

    /// Writes into the lock file that a successor may wait for the lock.
    pub fn mark_leaving(&mut self) {
        let text = format!("pid {}, {LEAVING}", Pid::current());
        if let Err(error) = self.write(&text) {
            tracing::warn!(%error, "the lock file could not be marked as shutting down");
        }
    }

    /// The lock, for the daemon and for the next program.
    pub fn into_lock(self) -> File {
        self.file
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())
    }
}

/// Whether the holder is shutting down, or its daemon is dead and the guardian cleans up.
fn is_ending(holder: &str) -> bool {
    let pid = holder.strip_prefix("pid ").and_then(|rest| rest.split(',').next());
    let pid = pid.and_then(|number| number.parse().ok()).and_then(Pid::new);
    // A process that can't be read now counts as running.
    let has_ended =
        |pid| process::read(pid).is_ok_and(|found| found.is_none_or(|it| process::is_zombie(&it)));
    holder.contains(LEAVING) || pid.is_some_and(has_ended)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

fn read(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}
