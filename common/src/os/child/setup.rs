//! The code of a child between fork and exec: only async-signal-safe calls, no allocation, no lock, because
//! the fork copied locks and structures that other threads of the parent were using (signal-safety(7)).

#![expect(unsafe_code, reason = "between fork and exec there are only the system's own calls")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::libc;
use rustix::io::fcntl_dupfd_cloexec;

use super::image::ExecImage;
use super::report::{Step, encode};
use crate::ids::Mark;
use crate::os::this_process::{OpenFileLimit, original_umask};

/// Where the child has its end of the report, after 0 to 2.
const REPORT: RawFd = 3;

/// The descriptors that a child uses, none of them below 4: so that none is overwritten before it is used.
pub(super) struct ChildDescriptors {
    input: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
    report: OwnedFd,
    cgroup: Option<OwnedFd>,
}

impl ChildDescriptors {
    /// # Errors
    /// When there are not enough descriptors, or `/dev/null` can't be opened.
    pub(super) fn new(
        [input, output, errors]: [Option<OwnedFd>; 3],
        cgroup: Option<&OwnedFd>,
        report: &OwnedFd,
    ) -> io::Result<Self> {
        let output = above_report(output)?;
        Ok(Self {
            input: above_report(input)?,
            errors: high(errors.as_ref().unwrap_or(&output))?,
            output,
            report: high(report)?,
            cgroup: cgroup.map(high).transpose()?,
        })
    }
}

fn above_report(descriptor: Option<OwnedFd>) -> io::Result<OwnedFd> {
    match descriptor {
        Some(descriptor) => high(&descriptor),
        None => high(&OwnedFd::from(null_device()?)),
    }
}

fn null_device() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/null")
}

fn high(descriptor: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(descriptor.as_fd(), REPORT + 1)?)
}

/// The data that the child needs, gathered before the fork.
#[derive(Clone, Copy)]
pub(super) struct ChildSetup {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux has a parent-death signal"))]
    parent: libc::pid_t,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux carries marks in limits"))]
    mark: u64,
    open_files: OpenFileLimit,
    umask: Option<libc::mode_t>,
}

impl ChildSetup {
    /// For a child of this process.
    pub(super) fn new(mark: Mark, open_files: OpenFileLimit) -> Self {
        let umask = original_umask();
        Self { parent: std::process::id().cast_signed(), mark: mark.to_limit(), open_files, umask }
    }

    /// Runs in the child: prepares it, and executes the program.
    pub(super) fn run(&self, descriptors: &ChildDescriptors, image: &ExecImage) -> ! {
        let (step, error) = match self.prepare(descriptors) {
            Err(error) => (Step::Prepare, error),
            Ok(()) => {
                send(None, 0);
                execute(image)
            }
        };
        send(Some(step), error.raw_os_error().unwrap_or(libc::EIO));
        // SAFETY: ends this process without running anything of the parent (_exit(2)).
        unsafe { libc::_exit(127) }
    }

    fn prepare(&self, descriptors: &ChildDescriptors) -> io::Result<()> {
        place(descriptors)?;
        enter_cgroup(descriptors);
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

/// 0 means the writing process. A failure is ignored here: the parent checks the cgroup of the child.
fn enter_cgroup(descriptors: &ChildDescriptors) {
    if let Some(entrance) = &descriptors.cgroup {
        // SAFETY: the byte lives as long as the call.
        unsafe { libc::write(entrance.as_raw_fd(), b"0".as_ptr().cast(), 1) };
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

/// Input, output and errors at 0 to 2, the report at 3.
fn place(descriptors: &ChildDescriptors) -> io::Result<()> {
    let ChildDescriptors { input, output, errors, report, .. } = descriptors;
    let places = [(input, 0), (output, 1), (errors, 2), (report, REPORT)];
    for (descriptor, place) in places {
        // SAFETY: plain numbers of open descriptors.
        check(unsafe { libc::dup2(descriptor.as_raw_fd(), place) })?;
    }
    // SAFETY: plain numbers.
    check(unsafe { libc::fcntl(REPORT, libc::F_SETFD, libc::FD_CLOEXEC) })
}

/// Changes to the directory and executes the program. Both may block for as long as a file system does.
fn execute(image: &ExecImage) -> (Step, io::Error) {
    // SAFETY: the text ends with a NUL byte and lives as long as the call.
    if unsafe { libc::chdir(image.directory.as_ptr()) } == -1 {
        return (Step::Directory, io::Error::last_os_error());
    }
    exec_with_path(image);
    (Step::Exec, io::Error::last_os_error())
}

/// execvpe(3), which looks the program up in the `PATH` of the new environment. execvp(3) is not in the list of
/// signal-safety(7), but glibc, musl and macOS build the paths on the stack, and std relies on that, too.
fn exec_with_path(image: &ExecImage) {
    #[cfg(not(target_os = "linux"))]
    let environment = {
        // SAFETY: the address of `environ`, which only this single thread uses now.
        unsafe { libc::_NSGetEnviron() }
    };
    #[cfg(target_os = "linux")]
    let environment = {
        unsafe extern "C" {
            static mut environ: *mut *mut libc::c_char;
        }
        &raw mut environ
    };
    // SAFETY: both lists end with a null pointer, and `image` outlives the process image.
    unsafe {
        *environment = image.env.as_ptr().cast_mut().cast();
        libc::execvp(image.program().as_ptr(), image.args.as_ptr());
    }
}

/// Sends a message to the parent. A parent that has exited needs none.
fn send(step: Option<Step>, errno: i32) {
    let message = encode(step, errno);
    // SAFETY: the bytes live as long as the call.
    unsafe { libc::write(REPORT, message.as_ptr().cast(), message.len()) };
}

/// Closes all descriptors except 0 to 3: a child that hangs in `chdir` or `exec` must not hold sockets and locks.
fn close_others() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: plain numbers.
        let result = unsafe { libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32) };
        if result == 0 {
            return;
        }
    }
    // A kernel or a sandbox without close_range(2): one by one.
    for descriptor in REPORT + 1..MAX_DESCRIPTOR {
        // SAFETY: plain numbers; for a descriptor that is not open it fails without effect.
        unsafe { libc::close(descriptor) };
    }
}

/// The end of the loop over descriptors, which takes some milliseconds.
const MAX_DESCRIPTOR: libc::c_int = 65_536;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
