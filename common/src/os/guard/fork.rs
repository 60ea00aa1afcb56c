//! One process becomes two.

#![expect(unsafe_code, reason = "fork(2) has no safe wrapper: it is safe only with a single thread")]

use std::io;

use nix::libc;

use crate::ids::Pid;
use crate::os::{child, this_process};

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Twin {
    /// The one that was there before.
    Parent {
        /// The new one.
        child: Pid,
    },
    /// The new one.
    Child {
        /// The one that was there before.
        parent: Pid,
    },
}

/// Forks. Both go on with everything that was there, so nothing may depend on another thread.
///
/// # Errors
/// When there are other threads (they would not exist in the child, and what they hold locked would
/// stay so), or the kernel grants no process.
pub fn fork() -> io::Result<Twin> {
    if this_process::threads().len() > 1 {
        return Err(io::Error::other("other threads run already"));
    }
    let parent = Pid::current();
    // SAFETY: there is one thread, so the child finds no lock taken and no structure half changed.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Twin::Child { parent }),
        child => Pid::new(child)
            .map(|child| Twin::Parent { child })
            .ok_or_else(|| io::Error::other("the kernel gave a pid that is none")),
    }
}

/// Asks the kernel for this signal when the parent ends. On systems without such a wish nothing
/// happens.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent(signal: child::Signal) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(signal.native()))?;
    #[cfg(not(target_os = "linux"))]
    let _no_such_wish = signal;
    Ok(())
}

/// The parent of this process now. Another one than before: the old one has ended.
pub fn parent() -> Option<Pid> {
    rustix::process::getppid().and_then(|parent| Pid::new(parent.as_raw_nonzero().get()))
}
