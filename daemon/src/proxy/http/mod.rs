//! HTTP: one client's connection, its requests, the connections to the worker.
//!
//! ```text
//!   serve -> client -> exchange -> fetch -> pool -> worker_connection         effects
//!                              `-> transfer, late                             effects
//!            head, request, response, fields, framing, chunked, reply, cors   pure: from bytes to decisions
//! ```

pub mod chunked;
pub mod client;
mod cors;
mod exchange;
pub mod fetch;
pub mod fields;
pub mod framing;
pub mod head;
pub mod incoming;
pub mod late;
pub mod pool;
pub mod reply;
pub mod request;
pub mod response;
pub mod serve;
mod shutdown_path;
pub mod socket;
mod transfer;
pub mod worker_connection;
pub mod worker_host;

#[cfg(test)]
mod differential_tests;
