//! The types and functions that `mcpd` and `mcpctl` share.
//!
//! ```text
//! ids, phase, event, outcome, status        plain data (serde)
//! finding, exit_status, exit_code           findings -> severity -> the exit code of a process
//! config, paths, run_file, journal, crash   files
//! known_processes                           file: processes of workers, for crash recovery
//! container_record                          file: containers of workers, for crash recovery
//! check                                     verifies ports and finds zombies, from any process
//! time_limits                               the limit of each phase
//! os                                        the only module with cfg(target_os) or unsafe
//! ```
//!
//! This crate starts no thread and does not depend on tokio, so that both programs and the tests can
//! use it.

pub mod check;
pub mod config;
pub mod container_record;
pub mod crash;
pub mod event;
pub mod exit_code;
pub mod exit_status;
pub mod finding;
pub mod ids;
pub mod journal;
pub mod known_processes;
pub mod os;
pub mod outcome;
pub mod paths;
pub mod phase;
pub mod run_file;
pub mod status;
pub mod time_limits;
pub mod wording;
