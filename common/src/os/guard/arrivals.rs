//! Signals, for a process that only waits: a handler notes each in a pipe, with where it came from.
//!
//! `sigwaitinfo` and `signalfd` would need no handler, but are not everywhere.

#![expect(unsafe_code, reason = "masks and handlers of signals have no safe wrappers that tell the origin")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::libc;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::os::child::Signal;
use crate::os::this_process;

/// Where the handler writes.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// Who sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The kernel, for instance a terminal to its whole foreground group: everybody in the group
    /// has got it.
    Kernel,
    /// A process, to this one alone or to a group.
    Process,
}

/// A signal that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// Which.
    pub signal: Signal,
    /// From whom.
    pub origin: Origin,
}

/// All signals wait; what they did before is remembered.
#[must_use]
pub struct Masked(libc::sigset_t);

/// Lets all signals wait.
///
/// # Errors
/// When the kernel refuses.
pub fn mask_all() -> io::Result<Masked> {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: each call writes the set that it is given; `before` is read only if it was written.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        match libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(Masked(before.assume_init())),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Masked {
    /// Lets them come as before; those that waited come now. All but these, which go on waiting.
    pub fn restore_but(mut self, waiting: &[Signal]) {
        for signal in waiting {
            // SAFETY: changes the set that it is given.
            unsafe { libc::sigaddset(&mut self.0, signal.number()) };
        }
        // SAFETY: a set that the kernel gave.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The signals of this process, from now on.
#[derive(Debug)]
pub struct Arrivals {
    pipe: OwnedFd,
}

impl Arrivals {
    /// Hears these signals, and the end of children. What was ignored stays ignored, but for the end
    /// of children: who ignores that can't wait for them.
    ///
    /// # Errors
    /// When the kernel grants no pipe or no handler.
    pub fn hear(signals: &[Signal]) -> io::Result<Self> {
        let (pipe, end) = io::pipe()?;
        for descriptor in [pipe.as_fd(), end.as_fd()] {
            let flags = rustix::fs::fcntl_getfl(descriptor)?;
            rustix::fs::fcntl_setfl(descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
        }
        // For as long as the process lives: a handler may run at any time.
        PIPE.store(std::os::fd::IntoRawFd::into_raw_fd(OwnedFd::from(end)), Ordering::Release);
        handle(libc::SIGCHLD, note)?;
        for signal in signals.iter().filter(|signal| !this_process::ignored_at_start(**signal)) {
            handle(signal.number(), note)?;
        }
        Ok(Self { pipe: pipe.into() })
    }

    /// Waits for a signal, for something to read at `other`, or so long; `None`: without an end.
    /// What has come of the signals; the end of a child is no news of its own.
    pub fn wait(&self, other: BorrowedFd, timeout: Option<Duration>) -> Vec<Arrival> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut entries =
            [PollFd::new(&self.pipe, PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        // Interrupted by a signal: it is in the pipe.
        let _ready = poll(&mut entries, timeout.as_ref());
        self.read()
    }

    fn read(&self) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let mut notes = [0u8; 128];
        while let Ok(length @ 1..) = rustix::io::read(&self.pipe, &mut notes) {
            arrivals.extend(notes[..length].chunks_exact(2).filter_map(|note| arrival(note[0], note[1])));
        }
        arrivals
    }
}

fn arrival(number: u8, origin: u8) -> Option<Arrival> {
    let signal = Signal::ALL.into_iter().find(|signal| signal.number() == i32::from(number))?;
    let origin = if origin == 0 { Origin::Process } else { Origin::Kernel };
    Some(Arrival { signal, origin })
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
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn note(number: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives the structure to a handler that asked for it.
    let from_kernel = unsafe { came_from_kernel(&*info) };
    let note = [u8::try_from(number).unwrap_or(0), u8::from(from_kernel)];
    let error = nix::errno::Errno::last();
    // A full pipe has news enough. SAFETY: two bytes of our own.
    unsafe { libc::write(PIPE.load(Ordering::Acquire), note.as_ptr().cast(), note.len()) };
    error.set();
}

#[cfg(target_os = "linux")]
fn came_from_kernel(info: &libc::siginfo_t) -> bool {
    info.si_code == libc::SI_KERNEL
}

/// No code says so here; but a process has a pid.
#[cfg(not(target_os = "linux"))]
fn came_from_kernel(info: &libc::siginfo_t) -> bool {
    info.si_pid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_note_is_no_arrival() {
        assert_eq!(arrival(0, 0), None);
        assert_eq!(arrival(15, 0), Some(Arrival { signal: Signal::Term, origin: Origin::Process }));
        assert_eq!(arrival(2, 1), Some(Arrival { signal: Signal::Int, origin: Origin::Kernel }));
    }
}
