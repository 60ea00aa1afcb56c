//! Driving the real `mcpd` and `mcpctl` from outside.
//!
//! ```text
//! ConfigBuilder --> Daemon::start --> mcpctl, signal, kill --> wait_exit --> assert_no_trace
//!   config, ports     daemon            command                               trace
//! ```
//!
//! Nothing here trusts what the daemon says about itself where it can look: processes are
//! found in `/proc`, ports are bound, files are looked for. Everything waits for conditions,
//! with a bound, and a failed test ends what it started and shows the daemon's log.
//!
//! The programs must have been built: `cargo build --workspace --bins`, which `scripts/test.sh`
//! does first. `MCPD_TEST_BIN_DIR` names another directory with them.

pub mod binaries;
pub mod cgroup;
pub mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod dice;
pub mod http;
pub mod init;
pub mod limits;
pub mod mcp;
pub mod ports;
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
