//! Clients and their HTTP libraries give up on silence, Node's fetch after 300 s. So a stream on which nothing is sent gets
//! comments, and a response that is late becomes a stream (R-CLIENT-10).

use std::sync::LazyLock;
use std::time::Duration;

use crate::fault;

/// A comment of server-sent events: clients ignore it.
pub const COMMENT: &[u8] = b": mcpd waits for the server\n\n";

/// After so much silence on a stream a comment is sent.
const COMMENT_AFTER: Duration = Duration::from_secs(15);
/// A response that takes longer becomes an event stream.
const LATE_AFTER: Duration = Duration::from_secs(20);

static SHORTENED: LazyLock<Option<Duration>> = LazyLock::new(fault::silence);

/// The longest silence on a stream.
pub fn interval() -> Duration {
    SHORTENED.unwrap_or(COMMENT_AFTER)
}

/// How long a client waits for a response in silence.
pub fn patience() -> Duration {
    SHORTENED.unwrap_or(LATE_AFTER)
}
