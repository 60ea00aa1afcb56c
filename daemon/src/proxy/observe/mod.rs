//! Client connections: what the front door knows, and what the kernel shows.

pub mod client_drain;
pub mod list;
pub mod registry;
pub mod socket_table;
