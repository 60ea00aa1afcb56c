//! Drives the real `mcpd` and `mcpctl` from outside.
//!
//! ```text
//! ConfigBuilder --> Daemon::start --> mcpctl, signal, kill --> wait_exit --> assert_no_trace
//!   config, ports     daemon            command                               trace
//! ```
//!
//! The helpers use other sources than the daemon's reports where they can: processes are found in `/proc`, ports are
//! bound, files are checked. All waits are for conditions, with a limit. A failed test kills its processes and prints the
//! daemon's log.
//!
//! The programs must have been built by `cargo build --workspace --bins`; `scripts/test.sh` does that first.
//! `MCPD_TEST_BIN_DIR` names another directory that contains them.

pub mod binaries;
pub mod cgroup;
pub mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod fake_engine;

pub mod http;
pub mod init;
pub mod limits;
pub mod mcp;
pub mod ports;
pub mod random;
pub mod repo;
pub mod skip;
pub mod trace;
pub mod wait;
pub mod wire;

pub use command::Output;
pub use config::{ConfigBuilder, WorkerSpec};
pub use daemon::Daemon;
pub use nix::sys::signal::Signal;
pub use wait::{BOUND, timed, until};
