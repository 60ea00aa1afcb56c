//! The words that `mcpd` and `mcpctl` share, and their eyes on the machine.
//!
//! ```text
//! ids, phase, event, outcome, status   what is said (plain data, serde)
//! exit_code                            report -> the number a shell sees
//! config, paths, run_file, journal     what is on disk
//! crash                                what a guardian found
//! check                                ports and zombies, looked at from outside
//! os                                   the only place with cfg(target_os) or unsafe
//! ```
//!
//! Nothing here starts a thread or knows tokio: both programs, and the tests, use
//! it as it is.

pub mod check;
pub mod config;
pub mod crash;
pub mod event;
pub mod exit_code;
pub mod ids;
pub mod journal;
pub mod known_processes;
pub mod os;
pub mod outcome;
pub mod paths;
pub mod phase;
pub mod run_file;
pub mod status;
