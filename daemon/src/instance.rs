//! One daemon per state directory (R-LOG-6): the lock, and who holds it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_common::paths::{StateDir, private_directory};
use rustix::fs::{FlockOperation, flock};

use crate::deadline::{self, Deadline};

/// Limit for a predecessor that is shutting down to release the lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at its lock.
const LOOK: Duration = Duration::from_millis(20);
/// What the lock file says of a holder that is leaving.
const LEAVING: &str = "leaving";

/// Why this daemon can't have the state directory.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Another daemon has it.
    #[error(
        "mcpd is already running here: {holder}\n\
         to serve another repository, add it to its configuration and restart it; \
         to run a second mcpd, give it a state directory of its own ([daemon] state_dir)"
    )]
    AlreadyRunning {
        /// What the lock file says of it.
        holder: String,
    },
    /// It can't be used.
    #[error("can't use the state directory {}: {source}; make it writable or choose another ([daemon] state_dir)", path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

/// The lock, shared with the guardian: it is held as long as one of the two lives.
pub struct Instance {
    file: File,
}

impl Instance {
    /// Takes the lock, waiting a little for a predecessor that is leaving or has just died; or keeps
    /// the one that this process was born with, or had as another program.
    ///
    /// # Errors
    /// When another daemon has it, or the directory can't be used.
    pub fn acquire(state: &StateDir, socket: &Path, inherited: Option<File>) -> Result<Self, InstanceError> {
        let unusable = |source| InstanceError::Unusable { path: state.path().to_owned(), source };
        private_directory::prepare(state.path()).map_err(unusable)?;
        // To lock again what is locked already does nothing.
        let mut file = match inherited {
            Some(file) => file,
            None => open(&state.lock()).map_err(unusable)?,
        };
        let patience = Deadline::after(PATIENCE);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(unusable(error.into())),
            }
            let holder = read(&mut file).map_err(unusable)?;
            if !is_ending(&holder) || patience.remaining().is_zero() {
                return Err(InstanceError::AlreadyRunning { holder });
            }
            deadline::pause(LOOK);
        }
        let mut instance = Self { file };
        let text = format!("pid {}, socket {}", Pid::current(), socket.display());
        instance.write(&text).map_err(unusable)?;
        Ok(instance)
    }

    /// Tells a successor that waiting is worth it.
    pub fn mark_leaving(&mut self) {
        let text = format!("pid {}, {LEAVING}", Pid::current());
        if let Err(error) = self.write(&text) {
            tracing::warn!(%error, "can't say in the lock file that this daemon is leaving");
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

/// Whether the holder leaves, or its daemon is dead and the guardian cleans up.
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
