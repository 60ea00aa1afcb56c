//! The only unsafe code: forking without exec in several ways, and what a process can do to itself.
#![expect(
    unsafe_code,
    reason = "nix marks fork and signal as unsafe; this program is single-threaded at that point"
)]

use std::io;
use std::os::unix::ffi::OsStrExt;

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, fork};

/// Which side of a fork this is.
pub enum Side {
    /// The one that was there before.
    Parent,
    /// The new one.
    Child,
}

/// Forks. Only for a process of one thread.
pub fn split() -> nix::Result<Side> {
    Ok(split_named()?.map_or(Side::Child, |_| Side::Parent))
}

/// The same; the pid of the child, or `None` in it.
pub fn split_named() -> nix::Result<Option<Pid>> {
    // SAFETY: no other thread exists that could hold a lock across the fork.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks a child with this exit signal; 0: none. A wait without `__WALL` does
/// not see such a child. Only for a process of one thread.
pub fn split_with_exit_signal(signal: libc::c_int) -> io::Result<Side> {
    // SAFETY: without CLONE_VM and with no stack of its own this is a fork; one thread, as above.
    match unsafe { libc::syscall(libc::SYS_clone, signal, 0, 0, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Side::Child),
        _ => Ok(Side::Parent),
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

/// Ends this thread alone, even if it is the one that the process is named after.
pub fn end_this_thread() -> ! {
    // SAFETY: nothing on this stack is used by another thread.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    std::process::abort()
}

/// Zeroes the command line and the environment that this process was started with, as others see them.
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
        // SAFETY: the kernel put the strings there and leaves them to the process; no other code reads them here
        // afterwards but by what was copied before.
        unsafe { std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, end - start) };
    }
    Ok(())
}

/// Becomes not dumpable (prctl(2), PR_SET_DUMPABLE): its files in `/proc` belong to root.
pub fn become_undumpable() {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Sets the soft limit that carries mcpd's mark to nothing.
pub fn lower_mark() {
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure lives as long as the call.
    unsafe { libc::setrlimit(libc::RLIMIT_LOCKS, &limit) };
}

/// Executes another program without any environment.
pub fn become_sleep(seconds: u64) -> ! {
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

/// Ignores a signal, for good.
pub fn ignore(which: Signal) {
    // SAFETY: no handler runs; the disposition is the kernel's own.
    let _ = unsafe { signal(which, SigHandler::SigIgn) };
}
