//! A server that speaks MCP on its standard input and output, shared by all clients of its port (R-STDIO).
//!
//! ```text
//!   exchange -> endpoint -> server -> input -> standard input      effects
//!                             ^------ lines <- standard output
//!               router (parts, level), hello, lines                pure: which message is whose
//! ```

mod body;
mod endpoint;
mod hello;
mod inbox;
mod input;
mod level;
mod lines;
mod parts;
mod router;
pub mod server;

pub use body::StdioBody;
pub use lines::LONGEST;
