//! A server that speaks MCP on its standard input and output: shared by all clients of its port, or with a process for
//! each session (R-STDIO).
//!
//! ```text
//!   exchange -> endpoint -> server -> input -> standard input      effects
//!                             ^------ lines <- standard output
//!               router (parts, level), hello, lines                pure: which message is whose
//!   own           processes of which each serves one session; own_endpoint, undelivered: what is different for them
//! ```

mod body;
mod endpoint;
mod hello;
mod inbox;
mod input;
mod level;
mod lines;
pub mod own;
mod own_endpoint;
mod parts;
pub mod router;
pub mod server;
mod undelivered;

pub use body::StdioBody;
pub use lines::LONGEST;
