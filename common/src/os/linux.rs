//! Facts from Linux: `/proc`, and `sock_diag` for sockets.

use std::fs;

use crate::ids::Pid;

mod descriptors;
#[cfg(fuzzing)]
pub mod fuzzing;
mod parse;
mod pidfd;
mod procfs;
mod sock_diag;
mod sockets;
mod tcp_state;
mod tree;

pub use descriptors::{descriptors, owners, pipe_of, pipes, sockets_of, threads};
pub use pidfd::{Opened, PidDescriptor};
pub use procfs::{
    children, command_line, environment, has_lists_of_children, has_other_threads, mark, owner, pids, read,
    tracer,
};
pub use sockets::{
    SHOWS_EVERY_SOCKET, connection, connections, listeners, listeners_on, sockets, tcp_socket,
};
pub use tree::tree;

/// The soft limit of open files to ask for: the kernel's default for its own maximum (`fs.nr_open`).
pub const MOST_OPEN_FILES: u64 = 1 << 20;

/// The boot id, a UUID.
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The pid in the name of a directory below `/proc`.
fn pid_of_name(name: &std::ffi::OsStr) -> Option<Pid> {
    name.to_str()?.parse().ok().and_then(Pid::new)
}
