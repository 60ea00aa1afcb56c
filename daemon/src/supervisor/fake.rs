//! A fake system for tests: it implements [`ProcessOperations`](crate::process::operations::ProcessOperations) and
//! [`WorkerClient`](super::probe::worker_client::WorkerClient) without processes and ports, on tokio's paused clock.
//!
//! ```text
//!   behaviour.rs             how a worker reacts to requests, probes and signals
//!   system.rs                the fake processes, and a record of what was done to them
//!   process_operations.rs    signals change the fake processes
//!   worker_client.rs         requests change the fake processes
//!   harness.rs               the real supervisor and process thread on a fake system
//! ```

pub mod behaviour;
pub mod harness;
mod process_operations;
pub mod system;
mod worker_client;
