//! execve(2) of another program in this process: same pid, and chosen descriptors stay open.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::execve;
use rustix::io::{FdFlags, fcntl_setfd};

/// Keeps this descriptor open through [`exec`]; returns the number with which the next program can [`adopt`]
/// it.
///
/// # Errors
/// When the flag close-on-exec can't be cleared.
pub fn keep(descriptor: &OwnedFd) -> io::Result<RawFd> {
    fcntl_setfd(descriptor, FdFlags::empty())?;
    Ok(descriptor.as_raw_fd())
}

/// A descriptor that the previous program kept open. It is closed on the next exec unless it is kept again.
///
/// The number must come from [`keep`], and be adopted only once: nothing else in this process owns it then.
///
/// # Errors
/// When it is not open, or is 0 to 2.
#[expect(unsafe_code, reason = "a number becomes an owned descriptor")]
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: sets a flag; for a number that is not open the kernel returns EBADF.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, because fcntl(2) succeeded, and by the contract above nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns only if it failed; then nothing has changed. `args` begin with the program's name.
pub fn exec(program: &Path, args: &[OsString], env: &[(OsString, OsString)]) -> io::Error {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let prepared = || -> io::Result<_> {
        let args = args.iter().map(|arg| text(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
        let pair =
            |(key, value): &(OsString, OsString)| text(&[key.as_bytes(), b"=", value.as_bytes()].concat());
        let env = env.iter().map(pair).collect::<io::Result<Vec<_>>>()?;
        Ok((text(program.as_os_str().as_bytes())?, args, env))
    };
    match prepared() {
        Ok((program, args, env)) => match execve(&program, &args, &env) {
            Ok(never) => match never {},
            Err(error) => error.into(),
        },
        Err(error) => error,
    }
}

/// Blocks the signals that request a shutdown, in this thread and in threads that it starts. Pending signals
/// stay pending through [`exec`].
pub fn hold_stop_signals() -> Result<(), Errno> {
    stop_signals().thread_block()
}

/// Unblocks these signals in this thread.
pub fn take_stop_signals() -> Result<(), Errno> {
    stop_signals().thread_unblock()
}

fn stop_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_not_open_is_not_adopted() {
        for number in [-1, 0, 2, 1_000_000] {
            assert!(adopt(number).is_err(), "{number}");
        }
    }

    #[test]
    fn a_failed_exec_returns_the_error() {
        let error = exec(Path::new("/nonexistent"), &["x".into()], &[]);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = exec(Path::new("/bin/true"), &["a\0b".into()], &[]);
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
