//! Which pipes a process holds (`<sys/proc_info.h>`), which says who inherited a worker's output.
//!
//! Each end of a pipe is an object of its own here, which all who inherited that end share.

use std::collections::HashSet;
use std::ffi::c_int;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;

use crate::ids::Pid;
use crate::os::process::PipeId;

/// `PROX_FDTYPE_PIPE`.
const PIPE: u32 = 6;
/// `PROC_PIDFDPIPEINFO`.
const PIPE_INFO: c_int = 6;
/// More descriptors than that are not looked at.
const MOST: usize = 1 << 16;

/// `struct pipe_fdinfo`: what the file is (24 bytes), its vinfo_stat (136), then the handles.
#[repr(C)]
struct PipeInfo {
    file: [u64; 3],
    stat: [u64; 17],
    handle: u64,
    peer: u64,
    status: c_int,
    reserved: c_int,
}

/// The pipes that a process holds; none if it is closed to us.
pub fn pipes(pid: Pid) -> HashSet<PipeId> {
    let pipes = descriptors(pid).into_iter().filter(|one| one.proc_fdtype == PIPE);
    pipes.filter_map(|one| handle(pid, one.proc_fd)).collect()
}

/// The end of a pipe that a descriptor of ours leads to.
pub fn pipe_of(descriptor: BorrowedFd<'_>) -> Option<PipeId> {
    handle(Pid::current(), descriptor.as_raw_fd())
}

/// The descriptors of a process; none if it is closed to us.
pub(super) fn descriptors(pid: Pid) -> Vec<libc::proc_fdinfo> {
    let none = std::ptr::null_mut();
    // SAFETY: without a buffer the call only tells the size.
    let size = unsafe { libc::proc_pidinfo(pid.get(), libc::PROC_PIDLISTFDS, 0, none, 0) };
    let count = usize::try_from(size).unwrap_or(0) / size_of::<libc::proc_fdinfo>();
    let mut listed: Vec<MaybeUninit<libc::proc_fdinfo>> = Vec::new();
    listed.resize_with(count.min(MOST), MaybeUninit::zeroed);
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
