//! The code of a child between fork and exec: only async-signal-safe calls, no allocation, no lock, because
//! the fork copied locks and structures that other threads of the parent were using (signal-safety(7)).

#![expect(unsafe_code, reason = "between fork and exec there are only the system's own calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;

use crate::ids::Mark;
use crate::os::this_process::{OpenFileLimit, original_umask};

/// The data that the child needs, gathered before the fork.
#[derive(Clone, Copy)]
pub struct ChildSetup {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has a parent-death signal"))]
    parent: libc::pid_t,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux carries marks in limits"))]
    mark: u64,
    open_files: OpenFileLimit,
    cgroup: Option<RawFd>,
    umask: Option<libc::mode_t>,
}

impl ChildSetup {
    /// For a child of this process. `cgroup` must stay open until the fork.
    pub fn new(mark: Mark, open_files: OpenFileLimit, cgroup: Option<BorrowedFd<'_>>) -> Self {
        let cgroup = cgroup.map(|entrance| entrance.as_raw_fd());
        let umask = original_umask();
        Self { parent: std::process::id().cast_signed(), mark: mark.to_limit(), open_files, cgroup, umask }
    }

    /// Runs in the child.
    pub fn prepare(&self) -> io::Result<()> {
        self.enter_cgroup();
        // SAFETY: takes no arguments and touches no memory.
        check(unsafe { libc::setsid() })?;
        #[cfg(target_os = "linux")]
        self.die_with_parent()?;
        default_signals()?;
        #[cfg(target_os = "linux")]
        self.carry_mark();
        self.limit_open_files()?;
        if let Some(umask) = self.umask {
            // SAFETY: takes a plain number and always succeeds (umask(2)).
            unsafe { libc::umask(umask) };
        }
        close_others();
        Ok(())
    }

    /// 0 means the writing process. A failure is ignored here: the parent checks the cgroup of the child.
    fn enter_cgroup(&self) {
        if let Some(entrance) = self.cgroup {
            // SAFETY: the byte lives as long as the call.
            unsafe { libc::write(entrance, b"0".as_ptr().cast(), 1) };
        }
    }

    #[cfg(target_os = "linux")]
    fn die_with_parent(&self) -> io::Result<()> {
        // SAFETY: these arguments are plain numbers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        // If the parent exited before the prctl(2), no signal will come.
        // SAFETY: takes no arguments and touches no memory.
        let parent = unsafe { libc::getppid() };
        if parent == self.parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    }

    /// Sets the soft limit only. If the hard limit is lower the child has no mark; it is still found by tree
    /// and session.
    #[cfg(target_os = "linux")]
    fn carry_mark(&self) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls get a structure of their type that outlives them.
        unsafe {
            if libc::getrlimit(libc::RLIMIT_LOCKS, &mut limit) == 0 {
                limit.rlim_cur = self.mark;
                libc::setrlimit(libc::RLIMIT_LOCKS, &limit);
            }
        }
    }

    fn limit_open_files(&self) -> io::Result<()> {
        let limit = libc::rlimit { rlim_cur: self.open_files.soft, rlim_max: self.open_files.hard };
        // SAFETY: the structure lives as long as the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })
    }
}

/// Sets all signals to their default dispositions, and unblocks them.
fn default_signals() -> io::Result<()> {
    for signal in 1..=LAST_SIGNAL {
        default_signal(signal);
    }
    // SAFETY: zeroed is a valid value of this plain structure, which lives as long as the calls.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))
    }
}

#[cfg(target_os = "linux")]
const LAST_SIGNAL: libc::c_int = 64;
#[cfg(not(target_os = "linux"))]
const LAST_SIGNAL: libc::c_int = 31;

/// Calls the kernel directly: the C library rejects 32 and 33, which it reserves, but which the parent may
/// have ignored. The kernel rejects `SIGKILL` and `SIGSTOP`, which never need it.
#[cfg(target_os = "linux")]
fn default_signal(signal: libc::c_int) {
    // At least as large as the kernel's structure on any architecture; all zero means SIG_DFL, no flags.
    let default = [0u64; 8];
    let nothing = std::ptr::null_mut::<u64>();
    // SAFETY: the kernel reads the first bytes of the array, which lives as long as the call.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), nothing, KERNEL_SIGSET) };
}

/// The size of the kernel's set of 64 signals.
#[cfg(target_os = "linux")]
const KERNEL_SIGSET: usize = 8;

#[cfg(not(target_os = "linux"))]
fn default_signal(signal: libc::c_int) {
    // SAFETY: zeroed is a valid value of this plain structure (SIG_DFL is 0), which lives as long as
    // the call.
    unsafe {
        let default = std::mem::zeroed::<libc::sigaction>();
        libc::sigaction(signal, &default, std::ptr::null_mut());
    }
}

/// Sets close-on-exec on all descriptors except 0 to 2. They are not closed, because std reports a failure
/// of the exec through one of them.
fn close_others() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: plain numbers.
        let result =
            unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if result == 0 {
            return;
        }
    }
    // A kernel or a sandbox without close_range(2): one by one.
    for descriptor in 3..MAX_DESCRIPTOR {
        // SAFETY: plain numbers; for a descriptor that is not open it fails without effect.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// The end of the loop over descriptors, which takes some milliseconds.
const MAX_DESCRIPTOR: libc::c_int = 65_536;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
