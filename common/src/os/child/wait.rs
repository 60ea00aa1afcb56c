//! Waiting: how a child ended, and the kernel's word that none is left.

// One waitid(2) with a pid in its answer: rustix drops the pid, and nix fails on a child that a
// real-time signal ended, after having reaped it.
#![expect(unsafe_code, reason = "no safe wrapper of waitid(2) tells what we need")]

use std::io;

use nix::libc;

use crate::ids::Pid;
use crate::outcome::ExitStatus;

/// What [`prove_no_children`] asks, and the answer that proves: for reports.
pub const PROOF: &str = "waitid(P_ALL, WEXITED|WNOHANG|__WALL) = ECHILD";

/// Children of every kind, also those that signal their end by something else than `SIGCHLD`.
#[cfg(target_os = "linux")]
const ALL_KINDS: libc::c_int = libc::__WALL;
#[cfg(not(target_os = "linux"))]
const ALL_KINDS: libc::c_int = 0;

/// Whether any child has ended that is not reaped yet: one question instead of one for each.
pub fn has_any_ended() -> bool {
    !matches!(wait(libc::P_ALL, 0, libc::WNOWAIT), Ok(None))
}

/// How this child ended, if it did, leaving it unreaped: its pid stays its own.
pub fn peek_exit(pid: Pid) -> Option<ExitStatus> {
    wait_for(pid, libc::WNOWAIT)
}

/// How this child ended, if it did. Its pid is free for others afterwards.
pub fn reap(pid: Pid) -> Option<ExitStatus> {
    wait_for(pid, 0)
}

fn wait_for(pid: Pid, options: libc::c_int) -> Option<ExitStatus> {
    let number = libc::id_t::try_from(pid.get()).ok()?;
    let ended = wait(libc::P_PID, number, options).ok().flatten();
    ended.map(|(_, status)| status)
}

/// What the kernel says about our children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Proof {
    /// `ECHILD`: there is none. For a subreaper that means: there is no descendant.
    NoChildren,
    /// At least one is there.
    Children,
}

/// What [`prove_no_children`] saw and did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Sweep {
    /// What the kernel said at last.
    pub proof: Proof,
    /// The children that had ended and that it reaped on the way.
    pub reaped: Vec<(Pid, ExitStatus)>,
}

/// Reaps every child that has ended, and asks the kernel whether any is left (see [`PROOF`]).
pub fn prove_no_children() -> Sweep {
    let mut reaped = Vec::new();
    loop {
        match wait(libc::P_ALL, 0, 0) {
            Ok(Some(child)) => reaped.push(child),
            Ok(None) => return Sweep { proof: Proof::Children, reaped },
            // Nothing but ECHILD is a proof.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                return Sweep { proof: Proof::NoChildren, reaped };
            }
            Err(_) => return Sweep { proof: Proof::Children, reaped },
        }
    }
}

/// waitid(2) that never blocks; `Ok(None)`: children are there, none has ended.
fn wait(
    kind: libc::idtype_t,
    number: libc::id_t,
    options: libc::c_int,
) -> io::Result<Option<(Pid, ExitStatus)>> {
    let options = options | libc::WEXITED | libc::WNOHANG | ALL_KINDS;
    // Zeroed, because without an ended child not every system writes to it.
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to memory of the type that the call writes.
    let answer = unsafe { libc::waitid(kind, number, info.as_mut_ptr(), options) };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, which is a valid value of this plain structure, and perhaps overwritten.
    let info = unsafe { info.assume_init() };
    // SAFETY: after waitid(2) these fields of the union are the ones that are set, or still zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let status = match info.si_code {
        libc::CLD_EXITED => ExitStatus::Code(status),
        _ => ExitStatus::Signal(status),
    };
    Ok(Pid::new(pid).map(|pid| (pid, status)))
}
