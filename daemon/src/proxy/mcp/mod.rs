//! What messages, sessions and event streams mean.

pub mod errors;
pub mod farewell;
pub mod message;
pub mod quick;
pub mod replay;
pub mod scan;
pub mod session;
pub mod sessions;
pub mod sse;
pub mod stream;
