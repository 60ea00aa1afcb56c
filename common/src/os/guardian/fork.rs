//! fork(2), and the death of the parent.

#![expect(unsafe_code, reason = "fork(2) has no safe wrapper: it is safe only with a single thread")]

use std::io;

use nix::libc;

use crate::ids::Pid;
use crate::os::signal::Signal;
use crate::os::this_process;

/// The process in which [`fork`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ForkResult {
    /// The process that called [`fork`].
    Parent {
        /// The pid of the new process.
        child: Pid,
    },
    /// The new process.
    Child {
        /// The pid of the process that called [`fork`].
        parent: Pid,
    },
}

/// The name of a thread that may exist during [`fork`]: it looks into a file system that does not respond, so it is
/// inside a system call and holds no lock.
pub const LOOKUP_THREAD: &str = "mcpd-look";

/// Forks. Both processes continue with the same memory and descriptors.
///
/// # Errors
/// When there are other threads than [`LOOKUP_THREAD`] (they would not exist in the child, and their locks would stay locked), or
/// when the kernel can't create a process.
pub fn fork() -> io::Result<ForkResult> {
    let is_harmless = |name: &str| name == LOOKUP_THREAD;
    if this_process::threads().iter().filter(|(_, name)| !is_harmless(name)).count() > 1 {
        return Err(io::Error::other("other threads are running"));
    }
    let parent = Pid::current();
    // SAFETY: there is one thread, so the child finds no locked lock and no half-written structure.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(ForkResult::Child { parent }),
        child => Pid::new(child)
            .map(|child| ForkResult::Parent { child })
            .ok_or_else(|| io::Error::other("fork(2) returned an invalid pid")),
    }
}

/// Makes the kernel send this signal when the parent exits (`PR_SET_PDEATHSIG`). Does nothing except on
/// Linux.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent(signal: Signal) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(signal.native()))?;
    #[cfg(not(target_os = "linux"))]
    let _ = signal;
    Ok(())
}

/// The current parent of this process. It changes when the parent exits; `None` if the parent is in another
/// PID namespace.
pub fn parent() -> Option<Pid> {
    rustix::process::getppid().and_then(|parent| Pid::new(parent.as_raw_nonzero().get()))
}
