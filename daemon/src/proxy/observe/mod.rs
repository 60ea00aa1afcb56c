//! Client connections: those of the proxy, and those in the kernel's socket table.

pub mod client_drain;
pub mod client_process;
pub mod client_watch;
pub mod departures;
pub mod list;
pub mod registry;
pub mod socket_table;
