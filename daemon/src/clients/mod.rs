//! The clients of workers that hold their own ports: seen in the kernel's socket table
//! (R-CLIENT-6).
//!
//! `kernel.rs` looks, `departure.rs` follows them out during a shutdown.

pub mod departure;
pub mod kernel;
