//! The configuration, checked and complete.
//!
//! ```text
//! text --raw.rs--> Raw --build*.rs, environment.rs--> Config (settings.rs, shutdown.rs, worker.rs)
//!             \              |
//!              `--> Notes <--'  --> Problems, warnings
//! ```
//!
//! [`Config`] needs no further lookup: paths are absolute, ports are chosen, transports are
//! inferred. All problems are reported at once (R-CONF-3), and one bad worker does not stop the
//! rest (R-CONF-4).

mod build;
mod build_worker;
mod build_workers;
mod command_name;
pub mod container;
mod context;
mod duration;
mod env_file;
mod environment;
mod file_system;
pub mod init;
mod load;
mod lookup;
mod mistakes;
mod names;
mod nearest;
mod placeholder;
mod ports;
mod problem;
mod raw;
mod repository;
pub mod schema;
mod section;
mod settings;
mod shutdown;
mod usable;
mod worker;
mod worker_env;

#[cfg(test)]
mod tests;

pub use context::GitReason;
pub use duration::{from_text as parse_duration, show as show_duration};
pub use file_system::not_responding;
pub use load::{LoadError, Loaded, Source, check, load, peek};
pub use placeholder::PortText;
pub use problem::{Problem, Severity};
pub use repository::{FoundRepository, find_repository};
pub use settings::{Config, DaemonConfig, ResourceConfig};
pub use shutdown::{ForcePorts, ShutdownConfig};
pub use worker::{
    HostPolicy, PortSource, Probe, Program, RestartPolicy, SessionsPolicy, Transport, WorkerConfig,
};
pub use worker_env::{ReadEnv, Variables, WorkerEnv};
