//! The machine: processes, children, signals, sockets. **The only place with
//! `cfg(target_os)` or `unsafe`.**
//!
//! ```text
//! process       all processes: /proc on Linux, libproc on macOS       (read only)
//! child         our children: spawn, wait, signal, subreaper, proof   (effects)
//! guardian      daemon and guardian: fork, signals, shared memory
//! handover      exec(2) of another program in this process
//! socket        TCP: the kernel's socket table, owners, bind probes
//! this_process  our own descriptors, threads, limits, memory
//! cgroup        cgroups v2, where one is delegated to us
//! open_beneath  files below a directory, without symbolic links
//! machine       boot id, user names
//!
//! process_data, tcp, signal, backend   plain data that all of them share
//! lookup        "could not look" as an error, apart from "not there"
//! linux         facts from Linux             darwin   facts from macOS
//! portable      decisions that need only the facts that both give
//! ```
//!
//! Imports go in one direction: dispatchers (`process`, `child`, `socket`) use `linux`, `darwin` and
//! `portable`; these use plain data only. `portable` decides on macOS, and on Linux if
//! `MCPD_BACKEND=portable` is set; callers see which one only through [`backend()`].

mod backend;
pub mod cgroup;
pub mod child;
pub mod guardian;
pub mod handover;
mod lookup;
mod machine;
mod notify_socket;
mod open_beneath;
pub mod process;
mod process_data;
mod signal;
pub mod socket;
mod tcp;
pub mod this_process;

#[cfg(not(target_os = "linux"))]
mod darwin;
#[cfg(target_os = "linux")]
mod linux;
mod portable;
#[cfg(any(test, fuzzing, not(target_os = "linux")))]
mod procargs;
#[cfg(any(test, fuzzing, not(target_os = "linux")))]
mod sockinfo;

pub use backend::{Backend, ContainedBy, Containment, backend};
pub use lookup::{CannotLook, Listing};
pub use machine::{ServiceManagerKind, boot_id, home_of, login_shell, service_manager_kind, user_name};
pub use notify_socket::NotifySocket;
pub use open_beneath::open_beneath;
pub use process_data::ProcessInfo;
pub use signal::signal_name;

#[cfg(fuzzing)]
pub use linux::fuzzing;

/// The facts of the system that this is compiled for, whichever backend decides with them.
#[cfg(not(target_os = "linux"))]
use darwin as system;
#[cfg(target_os = "linux")]
use linux as system;
