//! HTTP: one client connection, its requests, the connections to the worker.

pub mod body;
pub mod exchange;
pub mod head_timer;
pub mod headers;
pub mod link;
pub mod passing;
pub mod payload;
pub mod pipe;
pub mod reply;
pub mod serve;
mod shutdown_path;
pub mod turn;
pub mod upstream;
