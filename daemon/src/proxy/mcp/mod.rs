//! What messages, sessions and event streams mean.

pub mod attach;
pub mod errors;
pub mod lost;
pub mod message;
pub mod opening;
pub mod quick;
pub mod replay;
pub mod scan;
pub mod session;
pub mod sessions;
pub mod silence;
pub mod sse;
pub mod stream;
pub mod stream_end;
