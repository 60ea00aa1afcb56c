//! What the supervisor asks a worker over the network.

pub mod http;
pub mod ready;
pub mod worker_client;
