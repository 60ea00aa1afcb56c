//! The control service: gRPC on a Unix socket, for the daemon's user and root only.
//!
//! `socket.rs` makes the socket and accepts, `service.rs` has one thin function for each RPC,
//! `worker_actions.rs` follows a worker until it is as wished.

pub mod health;
pub mod service;
pub mod socket;
mod worker_actions;
