//! The clients.
//!
//! ```text
//!   front_door.rs   all doors: open, leave, say farewell, close
//!   door.rs         one port: accept, serve            registry.rs   every connection
//!   guard.rs        Host and Origin
//!   exchange.rs     one request: refused, answered here (answer.rs), or forwarded (upstream.rs)
//!   stream.rs       event streams: relayed, let go, attached anew, ended
//!   session.rs      owned sessions (pure), kept in sessions.rs; renewal.rs says again what a new worker must know
//!   message.rs, sse.rs   what bytes mean (pure)
//!   list.rs         who is connected now
//!   kernel.rs, departure.rs   connections as the kernel sees them, followed out in a shutdown
//! ```

pub mod answer;
pub mod body;
pub mod departure;
pub mod door;
pub mod exchange;
pub mod farewell;
pub mod front_door;
pub mod guard;
pub mod head_timer;
pub mod kernel;
pub mod link;
pub mod list;
pub mod message;
pub mod passing;
pub mod payload;
pub mod pipe;
pub mod porter;
pub mod quick;
pub mod registry;
pub mod renewal;
pub mod reply;
pub mod scan;
pub mod serve;
pub mod session;
pub mod sessions;
pub mod sse;
pub mod stream;
pub mod turn;
pub mod upstream;

use crate::random;

/// A session id: 128 random bits, visible ASCII as the specification of MCP asks for.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn mint() -> std::io::Result<String> {
    Ok(random::hex(&random::bytes::<16>()?))
}
