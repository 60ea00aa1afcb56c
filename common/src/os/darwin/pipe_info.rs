//! The pipes that a process holds (`<sys/proc_info.h>`), which show the processes that inherited the output
//! of a worker.
//!
//! Each end of a pipe has an id of its own on macOS, which all processes that inherited it share.

use std::collections::HashSet;
use std::ffi::c_int;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use crate::ids::Pid;
use crate::os::lookup::CannotLook;
use crate::os::process_data::PipeId;

/// `PROX_FDTYPE_PIPE`.
const PIPE: u32 = 6;
/// `PROC_PIDFDPIPEINFO`.
const PIPE_INFO: c_int = 6;
/// The largest number of descriptors that are read.
const MAX_DESCRIPTORS: usize = 1 << 16;

/// `struct pipe_fdinfo`: proc_fileinfo (24 bytes), vinfo_stat (136), then the handles.
#[repr(C)]
struct PipeInfo {
    file: [u64; 3],
    stat: [u64; 17],
    handle: u64,
    peer: u64,
    status: c_int,
    reserved: c_int,
}

/// The pipes that a process holds; none if its descriptors are not readable by this user.
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
pub fn pipes(pid: Pid) -> Result<HashSet<PipeId>, CannotLook> {
    let pipes = descriptors(pid).into_iter().filter(|descriptor| descriptor.proc_fdtype == PIPE);
    Ok(pipes.filter_map(|pipe| handle(pid, pipe.proc_fd)).collect())
}

/// The end of a pipe behind one of our own descriptors.
pub fn pipe_of(descriptor: BorrowedFd<'_>) -> Option<PipeId> {
    handle(Pid::current(), descriptor.as_raw_fd())
}

/// The descriptors of a process; none if they are not readable by this user.
pub(super) fn descriptors(pid: Pid) -> Vec<libc::proc_fdinfo> {
    let none = std::ptr::null_mut();
    // SAFETY: without a buffer the call only returns the size.
    let size = unsafe { libc::proc_pidinfo(pid.get(), libc::PROC_PIDLISTFDS, 0, none, 0) };
    let count = usize::try_from(size).unwrap_or(0) / size_of::<libc::proc_fdinfo>();
    let mut listed: Vec<MaybeUninit<libc::proc_fdinfo>> = Vec::new();
    listed.resize_with(count.min(MAX_DESCRIPTORS), MaybeUninit::zeroed);
    let room = c_int::try_from(size_of::<libc::proc_fdinfo>() * listed.len()).unwrap_or(0);
    let buffer = listed.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `room` bytes, which the buffer has.
    let size = unsafe { libc::proc_pidinfo(pid.get(), libc::PROC_PIDLISTFDS, 0, buffer, room) };
    listed.truncate(usize::try_from(size).unwrap_or(0) / size_of::<libc::proc_fdinfo>());
    // SAFETY: zeroed, which is a valid value of this plain structure, and then written.
    listed.into_iter().map(|one| unsafe { one.assume_init() }).collect()
}

fn handle(pid: Pid, descriptor: c_int) -> Option<PipeId> {
    let mut info = MaybeUninit::<PipeInfo>::zeroed();
    let size = c_int::try_from(size_of::<PipeInfo>()).ok()?;
    // SAFETY: the kernel writes at most `size` bytes to memory of that size; a descriptor that is no
    // pipe is an error.
    let written =
        unsafe { libc::proc_pidfdinfo(pid.get(), descriptor, PIPE_INFO, info.as_mut_ptr().cast(), size) };
    // SAFETY: a plain structure, all of which was written.
    (written == size).then(|| PipeId(unsafe { info.assume_init() }.handle))
}
