//! The clients.
//!
//! ```text
//!   front_door.rs   all doors: open, leave, say farewell, close      porter.rs   the thread that serves them
//!   door.rs         one port: accept                              registry.rs   every connection
//!   serve.rs        one connection, one task: turn.rs (what wakes it), head_timer.rs, pipe.rs (its event stream)
//!   guard.rs        Host and Origin
//!   exchange.rs     one request: refused, answered here (answer.rs), or forwarded
//!   headers.rs      what becomes of heads
//!   reply.rs        what comes back: whole, passed on, or an event stream
//!   upstream.rs     the worker behind a door; link.rs: one connection to it
//!   body.rs         bodies in both directions; payload.rs reads those of requests, passing.rs does not keep them
//!   stream.rs       event streams: relayed, let go, attached anew, ended
//!   session.rs      owned sessions (pure), kept in sessions.rs; renewal.rs says again what a new worker must know
//!   message.rs, quick.rs, scan.rs, sse.rs   what bytes mean (pure)
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
pub mod headers;
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
