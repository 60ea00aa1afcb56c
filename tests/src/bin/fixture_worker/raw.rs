//! The only unsafe code: forking without exec, and ignoring a signal.
#![expect(
    unsafe_code,
    reason = "nix marks fork and signal as unsafe; this program is single-threaded at that point"
)]

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, fork};

/// Which side of a fork this is.
pub enum Side {
    /// The one that was there before.
    Parent,
    /// The new one.
    Child,
}

/// Forks. Only for a process of one thread.
pub fn split() -> nix::Result<Side> {
    // SAFETY: no other thread exists that could hold a lock across the fork.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Side::Parent),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// Ignores a signal, for good.
pub fn ignore(which: Signal) {
    // SAFETY: no handler runs; the disposition is the kernel's own.
    let _ = unsafe { signal(which, SigHandler::SigIgn) };
}
