//! All unsafe code: several kinds of fork without exec, and what a process can do to itself.
#![expect(
    unsafe_code,
    reason = "nix marks fork and signal as unsafe; this program is single-threaded at that point"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{self, ForkResult, Pid};

/// The process in which a fork returns.
pub enum ForkSide {
    /// The process that called fork.
    Parent,
    /// The new process.
    Child,
}

/// Forks. Only for a process with a single thread.
pub fn fork() -> nix::Result<ForkSide> {
    Ok(fork_with_pid()?.map_or(ForkSide::Child, |_| ForkSide::Parent))
}

/// Like [`fork`]; returns the pid of the child, and `None` in the child.
pub fn fork_with_pid() -> nix::Result<Option<Pid>> {
    // SAFETY: no other thread exists that could hold a lock across the fork.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks a child with this exit signal; 0: none. A wait without `__WALL` does not find such a child. Only for a process
/// with a single thread.
pub fn fork_with_exit_signal(signal: libc::c_int) -> io::Result<ForkSide> {
    // SAFETY: without CLONE_VM and with no stack of its own this is a fork; one thread, as above.
    match unsafe { libc::syscall(libc::SYS_clone, signal, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(ForkSide::Child),
        _ => Ok(ForkSide::Parent),
    }
}

/// Like vfork(2), with a child that stops itself at once: the caller sleeps uninterruptibly (but for
/// `SIGKILL`) until the child ends.
pub fn wait_for_a_stopped_child() {
    extern "C" fn stop(_: *mut libc::c_void) -> libc::c_int {
        // SAFETY: async-signal-safe calls without memory.
        unsafe {
            libc::raise(libc::SIGSTOP);
            libc::_exit(0)
        }
    }
    let mut stack = vec![0u128; 4096];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own, which outlives it, since the parent waits for its end.
    unsafe { libc::clone(stop, top.cast(), flags, std::ptr::null_mut()) };
}

/// Exits this thread only, even if it is the leader of the thread group.
pub fn end_this_thread() -> ! {
    // SAFETY: nothing on this stack is used by another thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    std::process::abort()
}

/// Overwrites the command line and the environment in `/proc` with zeros.
pub fn overwrite_command_line_and_environment() -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<usize> = stat
        .rsplit(')')
        .next()
        .into_iter()
        .flat_map(str::split_ascii_whitespace)
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // arg_start, arg_end, env_start, env_end are the fields 48 to 51 of proc_pid_stat(5).
    for (start, end) in [(48, 49), (50, 51)].map(|(a, b)| (fields[a - 3], fields[b - 3])) {
        // SAFETY: the kernel put the strings there, and the process may write to them; after this no code reads them, except
        // from copies.
        unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start) };
    }
    Ok(())
}

/// Makes this process not dumpable (prctl(2), PR_SET_DUMPABLE): its files in `/proc` belong to root.
pub fn become_undumpable() {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Takes a write lease on an open file (fcntl(2)): until it ends, every open and exec of the file waits, for at most
/// 45 s (`/proc/sys/fs/lease-break-time`).
pub fn take_lease(file: &std::fs::File) -> io::Result<()> {
    // The kernel sends it when another process opens the file.
    ignore(Signal::SIGIO);
    // SAFETY: plain numbers.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes mcpd's mark: sets the soft limit that carries it to 0.
pub fn remove_mark() {
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives as long as the call.
    unsafe { libc::setrlimit(libc::RLIMIT_LOCKS, &limit) };
}

/// Executes sleep(1) with an empty environment.
pub fn exec_sleep(seconds: u64) -> ! {
    let words = ["sleep".to_owned(), seconds.to_string()];
    let words = words.map(|word| std::ffi::CString::new(word).unwrap_or_default());
    let pointers = [words[0].as_ptr(), words[1].as_ptr(), std::ptr::null()];
    let nothing = [std::ptr::null::<libc::c_char>()];
    for path in ["/bin/sleep", "/usr/bin/sleep"] {
        let path = std::ffi::CString::new(std::ffi::OsStr::new(path).as_bytes()).unwrap_or_default();
        // SAFETY: all arrays end with a null pointer and live as long as the call.
        unsafe { libc::execve(path.as_ptr(), pointers.as_ptr(), nothing.as_ptr()) };
    }
    std::process::abort()
}

/// Ignores a signal from now on.
pub fn ignore(which: Signal) {
    // SAFETY: no handler runs; the disposition is the kernel's own.
    let _ = unsafe { signal(which, SigHandler::SigIgn) };
}
