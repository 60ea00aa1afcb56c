//! What a child does between fork and exec. Only async-signal-safe calls, no allocation, no
//! lock: other threads of the parent stood still in the middle of anything.

#![expect(unsafe_code, reason = "between fork and exec there are only the system's own calls")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::libc;

use crate::ids::Mark;
use crate::os::this_process::OpenFileLimit;

/// What the child needs, gathered before the fork.
#[derive(Clone, Copy)]
pub struct Birth {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has a parent-death signal"))]
    parent: libc::pid_t,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux carries marks in limits"))]
    mark: u64,
    open_files: OpenFileLimit,
    cgroup: Option<RawFd>,
}

impl Birth {
    /// Of a child of this process. `cgroup` has to stay open until it is born.
    pub fn new(mark: Mark, open_files: OpenFileLimit, cgroup: Option<BorrowedFd<'_>>) -> Self {
        let cgroup = cgroup.map(|entrance| entrance.as_raw_fd());
        Self { parent: std::process::id().cast_signed(), mark: mark.to_limit(), open_files, cgroup }
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
        close_others();
        Ok(())
    }

    /// 0 means who writes it. A refusal is no failure: the parent looks where the child is.
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
        // The parent may have died before the kernel knew our wish; then nobody would tell us.
        // SAFETY: takes no arguments and touches no memory.
        match unsafe { libc::getppid() } == self.parent {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    /// The soft limit only. Where the hard one is lower the child goes without: it is still found by
    /// tree and session.
    #[cfg(target_os = "linux")]
    fn carry_mark(&self) {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls are given a structure of their type that lives as long as they do.
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

/// Default dispositions, also for what was ignored, and nothing blocked.
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

/// The kernel itself is asked: the C library would refuse 32 and 33, which it keeps for itself, and
/// which a careless parent may have left ignored. `SIGKILL` and `SIGSTOP` are refused, and need it not.
#[cfg(target_os = "linux")]
fn default_signal(signal: libc::c_int) {
    // At least as large as the kernel's structure on any machine; all zero means SIG_DFL, no flags.
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

/// No descriptor but 0 to 2 outlives the exec. They are marked, not closed: one of them is the pipe
/// through which a failure of the exec is told.
fn close_others() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: plain numbers.
        let marked =
            unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        if marked == 0 {
            return;
        }
    }
    // A kernel or a sandbox without close_range: one by one, as far as descriptors usually go.
    for descriptor in 3..ONE_BY_ONE {
        // SAFETY: plain numbers; one that is not open is an error without effect.
        unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Where marking one by one ends: some milliseconds.
const ONE_BY_ONE: libc::c_int = 65_536;

fn check(answer: libc::c_int) -> io::Result<()> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
