//! Facts from macOS: libproc and sysctl(3). Best effort: no sockets of other users, no tracer, no names of
//! threads.
//!
//! These calls need no descriptor, and their `ENOMEM` also means that a buffer is too small. So an error is
//! "not there" here, and the functions that return `CannotLook` on other systems never fail.

#![expect(unsafe_code, reason = "libproc and sysctl have no safe wrapper")]

use std::ffi::{CStr, c_int, c_void};
use std::fs;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::libc;
use rustix::net::{AddressFamily, SocketType};

use super::lookup::CannotLook;
use super::procargs;
use super::process_data::{Birth, Process, StartTime};
use crate::ids::Pid;

mod pipe_info;
mod sockets;

pub use pipe_info::{pipe_of, pipes};
pub use sockets::{
    SHOWS_EVERY_SOCKET, connection, connections, listeners, listeners_on, owners, sockets, sockets_of,
};

/// The largest limit of open files that setrlimit(2) accepts (`OPEN_MAX`).
pub const MOST_OPEN_FILES: u64 = 10_240;

/// The boot session id, a UUID.
pub fn boot_id() -> Option<String> {
    let mut buffer = [0u8; 64];
    let mut length = buffer.len();
    // SAFETY: the name ends with NUL; the kernel writes at most `length` bytes and says how many.
    let answer = unsafe {
        let name = c"kern.bootsessionuuid".as_ptr();
        libc::sysctlbyname(name, buffer.as_mut_ptr().cast(), &mut length, std::ptr::null_mut(), 0)
    };
    let text = CStr::from_bytes_until_nul(buffer.get(..length)?).ok()?.to_str().ok()?;
    (answer == 0 && !text.is_empty()).then(|| text.to_owned())
}

/// The pids of all processes.
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
pub fn pids() -> Result<Vec<Pid>, CannotLook> {
    // SAFETY: without a buffer the call only counts.
    let count = unsafe { libc::proc_listallpids(std::ptr::null_mut(), 0) };
    // With room for processes that start between the two calls.
    let mut buffer = vec![0; usize::try_from(count).unwrap_or(0) + 64];
    let size = c_int::try_from(buffer.len() * size_of::<c_int>()).unwrap_or(c_int::MAX);
    // SAFETY: the kernel writes at most `size` bytes, which the buffer has.
    let count = unsafe { libc::proc_listallpids(buffer.as_mut_ptr().cast::<c_void>(), size) };
    buffer.truncate(usize::try_from(count).unwrap_or(0));
    Ok(buffer.into_iter().filter_map(Pid::new).collect())
}

/// One structure of proc_pidinfo(3).
fn info<T>(pid: Pid, flavor: c_int, argument: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let size = c_int::try_from(size_of::<T>()).ok()?;
    // SAFETY: the kernel writes at most `size` bytes to memory of that size.
    let written = unsafe { libc::proc_pidinfo(pid.get(), flavor, argument, value.as_mut_ptr().cast(), size) };
    // SAFETY: only used for plain C structures, all of which was written.
    (written == size).then(|| unsafe { value.assume_init() })
}

/// The argument of `PROC_PIDTBSDINFO` that includes zombies.
const WITH_ZOMBIES: u64 = 1;

fn bsd_info(pid: Pid) -> Option<libc::proc_bsdinfo> {
    info(pid, libc::PROC_PIDTBSDINFO, WITH_ZOMBIES)
}

fn thread_count(pid: Pid) -> u32 {
    let task: Option<libc::proc_taskinfo> = info(pid, libc::PROC_PIDTASKINFO, 0);
    task.and_then(|task| u32::try_from(task.pti_threadnum).ok()).unwrap_or(1)
}

/// The process with this pid.
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
pub fn read(pid: Pid) -> Result<Option<Process>, CannotLook> {
    Ok(bsd_info(pid).map(|bsd| process(pid, &bsd)))
}

fn process(pid: Pid, bsd: &libc::proc_bsdinfo) -> Process {
    let name: Vec<u8> = bsd.pbi_comm.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
    let session = rustix::process::getsid(rustix::process::Pid::from_raw(pid.get()));
    Process {
        pid,
        ppid: bsd.pbi_ppid.cast_signed(),
        pgid: bsd.pbi_pgid.cast_signed(),
        session: session.map_or(0, |session| session.as_raw_nonzero().get()),
        state: state(bsd.pbi_status),
        start: StartTime(bsd.pbi_start_tvsec * 1_000_000 + bsd.pbi_start_tvusec),
        name: String::from_utf8_lossy(&name).into_owned(),
        threads: thread_count(pid),
        exit_signal: libc::SIGCHLD,
        birth: birth(pid),
    }
}

/// `PROC_PIDUNIQIDENTIFIERINFO`.
const UNIQUE_IDENTIFIERS: c_int = 17;

/// `struct proc_uniqidentifierinfo`.
#[repr(C)]
struct UniqueIdentifiers {
    program: [u8; 16],
    own: u64,
    parent: u64,
    others: [u64; 3],
}

/// Set by fork(2); neither exec(2) nor reparenting changes them.
fn birth(pid: Pid) -> Option<Birth> {
    let found: UniqueIdentifiers = info(pid, UNIQUE_IDENTIFIERS, 0)?;
    Some(Birth { own: found.own, parent: found.parent })
}

/// ps(1)'s letters for the states of `<sys/proc.h>`.
fn state(status: u32) -> char {
    match status {
        1 | 2 => 'R',
        4 => 'T',
        5 => 'Z',
        _ => 'S',
    }
}

/// A zombie has no threads on macOS.
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
pub fn has_other_threads(_pid: Pid) -> Result<bool, CannotLook> {
    Ok(false)
}

/// The effective user id.
pub fn owner(pid: Pid) -> Option<u32> {
    bsd_info(pid).map(|bsd| bsd.pbi_uid)
}

/// Not available on macOS.
pub fn tracer(_pid: Pid) -> Option<Pid> {
    None
}

fn argument_block(pid: Pid) -> Option<Vec<u8>> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid.get()];
    let mut block = vec![0u8; 256 * 1024];
    let mut length = block.len();
    // SAFETY: three numbers of name; the kernel writes at most `length` bytes and says how many.
    let answer = unsafe {
        libc::sysctl(name.as_mut_ptr(), 3, block.as_mut_ptr().cast(), &mut length, std::ptr::null_mut(), 0)
    };
    block.truncate(length);
    (answer == 0).then_some(block)
}

/// The command line, arguments joined by spaces.
pub fn command_line(pid: Pid) -> Option<String> {
    let block = argument_block(pid)?;
    let joined = procargs::parse(&block)?.arguments.join(&b' ');
    let text = String::from_utf8_lossy(&joined);
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// A variable of the environment at its last exec(2).
#[expect(clippy::unnecessary_wraps, reason = "the same signature on every system")]
pub fn environment(pid: Pid, variable: &str) -> Result<Option<String>, CannotLook> {
    let block = argument_block(pid);
    Ok(block.and_then(|block| procargs::parse(&block)?.variable(variable)))
}

/// Our own descriptors, each with its target.
pub fn descriptors() -> Vec<(i32, String)> {
    let Ok(listing) = fs::read_dir("/dev/fd") else { return Vec::new() };
    let numbers: Vec<i32> =
        listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The descriptor of the scan itself is closed by now, and so is left out.
    let mut found: Vec<_> =
        numbers.into_iter().filter_map(|number| Some((number, target(number)?))).collect();
    found.sort();
    found
}

fn target(number: i32) -> Option<String> {
    // SAFETY: only queried; for a closed descriptor the calls return an error.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_getfd(descriptor).ok()?;
    let path = rustix::fs::getpath(descriptor).ok();
    Some(path.map_or_else(|| "no file".to_owned(), |path| path.to_string_lossy().into_owned()))
}

/// Our own threads; only their number is known.
pub fn threads() -> Vec<(i32, String)> {
    let count = i32::try_from(thread_count(Pid::current())).unwrap_or(i32::MAX);
    (1..=count).map(|number| (number, "thread".to_owned())).collect()
}

/// A new TCP socket, closed on exec.
pub fn tcp_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}
