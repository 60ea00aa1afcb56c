//! ProcessOperations: started, signalled, reaped, contained.
//!
//! ```text
//!   process_thread.rs   one thread starts, signals and reaps all children
//!   operations.rs       the narrow interface to processes; containment/ implements it
//!   launch.rs           from a worker's configuration to the process to start
//!   helper_output.rs    a command of the daemon's own, and what it prints
//!   container/          the containers of workers, through their engine
//!   output.rs, log_writer.rs, worker_log.rs   draining what workers write
//! ```

pub mod container;
pub mod containment;
pub mod helper_output;
pub mod launch;
mod log_writer;
pub mod operations;
pub mod output;
pub mod process_thread;
mod worker_log;
