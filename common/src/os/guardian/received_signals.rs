//! Signals, for a process that only waits: a handler writes each signal and its origin to a pipe.
//!
//! sigwaitinfo(2) and signalfd(2) would need no handler, but are not available on macOS.

#![expect(unsafe_code, reason = "masks and handlers of signals have no safe wrappers that tell the origin")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::os::signal::Signal;
use crate::os::this_process;

/// The write end of the pipe, for the handler.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The sender of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The kernel. A terminal sends a signal to all processes of its foreground group.
    Kernel,
    /// A process, with kill(2) to this process or to a group.
    Process,
}

/// A signal that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReceivedSignal {
    /// One of the signals that are handled.
    pub signal: Signal,
    /// Decides whether the signal was sent to the daemon too.
    pub origin: Origin,
}

/// The signal mask before all signals were blocked.
#[must_use]
pub struct BlockedSignals(libc::sigset_t);

/// Blocks all signals; they stay pending.
///
/// # Errors
/// When the kernel refuses.
pub fn block_all_signals() -> io::Result<BlockedSignals> {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: each call writes the set that it is given; `before` is read only if it was written.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(BlockedSignals(before.assume_init())),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl BlockedSignals {
    /// Restores the mask, so that pending signals are delivered; these signals stay blocked.
    pub fn restore_except(mut self, blocked: &[Signal]) {
        for signal in blocked {
            // SAFETY: changes the set that it is given.
            unsafe { libc::sigaddset(&mut self.0, signal.number()) };
        }
        // SAFETY: a set that the kernel gave.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The signals that this process receives from the moment in which its handlers are installed.
#[derive(Debug)]
pub struct ReceivedSignals {
    pipe: OwnedFd,
}

impl ReceivedSignals {
    /// Installs handlers for these signals and for `SIGCHLD`. Signals that are ignored stay ignored, except
    /// `SIGCHLD`: a process that ignores it can't wait for its children.
    ///
    /// # Errors
    /// When the kernel grants no pipe or no handler.
    pub fn listen(signals: &[Signal]) -> io::Result<Self> {
        let (pipe, end) = io::pipe()?;
        for descriptor in [pipe.as_fd(), end.as_fd()] {
            let flags = rustix::fs::fcntl_getfl(descriptor)?;
            rustix::fs::fcntl_setfl(descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        // Never closed: a handler may run at any time.
        PIPE.store(std::os::fd::IntoRawFd::into_raw_fd(OwnedFd::from(end)), Ordering::Release);
        handle(libc::SIGCHLD, write_record)?;
        for signal in signals.iter().filter(|signal| !this_process::ignored_at_start(**signal)) {
            handle(signal.number(), write_record)?;
        }
        Ok(Self { pipe: pipe.into() })
    }

    /// Waits for a signal, until `other` is readable, or until the timeout; `None`: no timeout. Returns the
    /// received signals; `SIGCHLD` only ends the wait.
    pub fn wait(&self, other: BorrowedFd, timeout: Option<Duration>) -> Vec<ReceivedSignal> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut entries =
            [PollFd::new(&self.pipe, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        // If it was interrupted by a signal, that is in the pipe.
        let _ = poll(&mut entries, timeout.as_ref());
        self.read()
    }

    fn read(&self) -> Vec<ReceivedSignal> {
        let mut received = Vec::new();
        let mut records = [0u8; 128];
        while let Ok(length @ 1..) = rustix::io::read(&self.pipe, &mut records) {
            let records = records[..length].chunks_exact(2);
            received.extend(records.filter_map(|record| parse_record(record[0], record[1])));
        }
        received
    }
}

fn parse_record(number: u8, origin: u8) -> Option<ReceivedSignal> {
    let signal = Signal::ALL.into_iter().find(|signal| signal.number() == i32::from(number))?;
    let origin = if origin == 0 { Origin::Process } else { Origin::Kernel };
    Some(ReceivedSignal { signal, origin })
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn handle(number: libc::c_int, handler: Handler) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroed is a valid value of this plain structure; the handler makes async-signal-safe
    // calls only, and lives as long as the program.
    let answer = unsafe {
        let action = action.assume_init_mut();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_NOCLDSTOP;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(number, action, std::ptr::null_mut())
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn write_record(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives the structure to a handler that asked for it.
    let from_kernel = unsafe { came_from_kernel(&*info) };
    let record = [u8::try_from(number).unwrap_or(0), u8::from(from_kernel)];
    let error = nix::errno::Errno::last();
    // If the pipe is full the signal is lost; a waiting process is awake by then.
    // SAFETY: two bytes of our own.
    unsafe { libc::write(PIPE.load(Ordering::Acquire), record.as_ptr().cast(), record.len()) };
    error.set();
}

#[cfg(target_os = "linux")]
fn came_from_kernel(info: &libc::siginfo_t) -> bool {
    info.si_code == libc::SI_KERNEL
}

/// There is no such code here, but the pid of a sending process is not 0.
#[cfg(not(target_os = "linux"))]
fn came_from_kernel(info: &libc::siginfo_t) -> bool {
    info.si_pid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_signal_number_is_dropped() {
        assert_eq!(parse_record(0, 0), None);
        assert_eq!(
            parse_record(15, 0),
            Some(ReceivedSignal { signal: Signal::Term, origin: Origin::Process })
        );
        assert_eq!(parse_record(2, 1), Some(ReceivedSignal { signal: Signal::Int, origin: Origin::Kernel }));
    }
}
