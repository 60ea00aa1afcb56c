//! Client connections: those of the proxy, and those in the kernel's socket table.

pub mod client_drain;
pub mod list;
pub mod registry;
pub mod socket_table;
