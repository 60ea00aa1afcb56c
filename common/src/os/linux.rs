//! The facts that Linux gives: `/proc`, and `sock_diag` for sockets.

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
mod tree;

pub use descriptors::{descriptors, owners, pipe_of, pipes, sockets_of, threads};
pub use pidfd::{Opened, PidDescriptor};
pub use procfs::{children, command_line, environment, has_other_threads, mark, owner, pids, read, tracer};
pub use sockets::{SHOWS_EVERY_SOCKET, connections, listeners, sockets, tcp_socket};
pub use tree::tree;

/// As many open files as we ask for: what the kernel itself allows unless told otherwise.
pub const MOST_OPEN_FILES: u64 = 1 << 20;

/// What tells this boot of the machine from every other one.
pub fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The number that a directory below `/proc` is named after.
fn pid_of_name(name: &std::ffi::OsStr) -> Option<Pid> {
    name.to_str()?.parse().ok().and_then(Pid::new)
}
