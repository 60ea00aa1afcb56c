//! Clients and their HTTP libraries give up on silence, Node's fetch after 300 s. So a stream on which nothing is sent gets
//! comments, and a response that is late becomes a stream (R-CLIENT-10).

use std::sync::LazyLock;

use crate::fault;

/// A comment of server-sent events: clients ignore it.
pub const COMMENT: &[u8] = b": mcpd waits for the server\n\n";

/// Seconds of silence on a stream after which a comment is sent.
const COMMENT_AFTER: u32 = 14;
/// A response that takes longer, in seconds, becomes an event stream.
const LATE_AFTER: u32 = 20;

static SHORTENED: LazyLock<Option<u32>> = LazyLock::new(fault::silence);

/// The longest silence on a stream, in seconds; limits are up to a second longer.
pub fn interval() -> u32 {
    SHORTENED.unwrap_or(COMMENT_AFTER)
}

/// How long a client waits for a response in silence, in seconds.
pub fn patience() -> u32 {
    SHORTENED.unwrap_or(LATE_AFTER)
}
