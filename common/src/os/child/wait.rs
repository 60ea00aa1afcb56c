//! waitid(2): the exit status of a child, and the proof that none is left.

// waitid(2) with the pid of the child: rustix drops the pid, and nix fails on a child that was killed by a
// real-time signal, after having reaped it.
#![expect(unsafe_code, reason = "no safe wrapper of waitid(2) returns both pid and status")]

use std::io;

use nix::libc;

use crate::ids::Pid;
use crate::outcome::ExitStatus;

/// The system call of [`prove_no_children`] and the result that proves it, as a text for reports.
pub const PROOF: &str = "waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD";

/// Includes children whose exit signal is not `SIGCHLD` (clone(2)).
#[cfg(target_os = "linux")]
const ALL_KINDS: libc::c_int = libc::__WALL;
#[cfg(not(target_os = "linux"))]
const ALL_KINDS: libc::c_int = 0;

/// Whether any child is a zombie: one system call instead of one for each child.
pub fn has_any_ended() -> bool {
    !matches!(wait(libc::P_ALL, 0, libc::WNOWAIT), Ok(None))
}

/// The exit status of this child; `None` if it has not exited. It is not reaped, so its pid is not reused.
pub fn peek_exit(pid: Pid) -> Option<ExitStatus> {
    wait_for(pid, libc::WNOWAIT)
}

/// Reaps this child and returns its exit status; `None` if it has not exited. Its pid can be reused
/// afterwards.
pub fn reap(pid: Pid) -> Option<ExitStatus> {
    wait_for(pid, 0)
}

fn wait_for(pid: Pid, options: libc::c_int) -> Option<ExitStatus> {
    let number = libc::id_t::try_from(pid.get()).ok()?;
    let exited = wait(libc::P_PID, number, options).ok().flatten();
    exited.map(|(_, status)| status)
}

/// Whether the kernel knows children of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Proof {
    /// `ECHILD`: there is none. For a subreaper this means that there is no descendant.
    NoChildren,
    /// There is at least one, or the kernel returned another error.
    Children,
}

/// The result of [`prove_no_children`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ReapedChildren {
    /// The last answer of the kernel.
    pub proof: Proof,
    /// The children that were reaped.
    pub reaped: Vec<(Pid, ExitStatus)>,
}

/// Reaps every child that has exited, until the kernel says whether any is left (see [`PROOF`]).
pub fn prove_no_children() -> ReapedChildren {
    let mut reaped = Vec::new();
    loop {
        match wait(libc::P_ALL, 0, 0) {
            Ok(Some(child)) => reaped.push(child),
            Ok(None) => return ReapedChildren { proof: Proof::Children, reaped },
            // Only ECHILD is a proof.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                return ReapedChildren { proof: Proof::NoChildren, reaped };
            }
            Err(_) => return ReapedChildren { proof: Proof::Children, reaped },
        }
    }
}

/// waitid(2) that never blocks; `Ok(None)`: there are children, none has exited.
fn wait(
    kind: libc::idtype_t,
    number: libc::id_t,
    options: libc::c_int,
) -> io::Result<Option<(Pid, ExitStatus)>> {
    let options = options | libc::WEXITED | libc::WNOHANG | ALL_KINDS;
    // Zeroed, because not every system writes to it if no child has exited.
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to memory of the type that the call writes.
    let result = unsafe { libc::waitid(kind, number, info.as_mut_ptr(), options) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, which is a valid value of this plain structure, and perhaps overwritten.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid(2) sets these fields of the union, or they are still zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => ExitStatus::Code(status),
        _ => ExitStatus::Signal(status),
    };
    Ok(Pid::new(pid).map(|pid| (pid, status)))
}
