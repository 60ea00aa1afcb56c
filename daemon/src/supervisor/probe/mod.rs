//! Requests of the supervisor to a worker.

pub mod http;
pub mod worker_client;
