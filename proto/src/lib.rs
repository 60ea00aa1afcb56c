//! The control service of mcpd, and the conversion of its messages to and from the types of `mcpd-common`.
//!
//! ```text
//! mcpd/v1/control.proto --build.rs--> v1 (messages, client, server)
//! mcpd_common::T  --From-->     v1::T      never fails
//! v1::T           --TryFrom-->  T          ConvertError names the field
//! ```
//!
//! Both programs use the types of `mcpd-common`. Messages exist only between the socket and the
//! conversion.

mod convert;
#[cfg(test)]
mod tests;

pub use convert::ConvertError;

/// Messages, client and server as generated from `control.proto`.
pub mod v1 {
    #![expect(
        missing_docs,
        clippy::allow_attributes,
        clippy::large_enum_variant,
        reason = "generated; the proto file is the documentation"
    )]

    tonic::include_proto!("mcpd.v1");
}

/// Response metadata of `StartWorkers`, `StopWorkers` and `RestartWorkers`: the time in milliseconds that the
/// daemon may take at most for all results.
pub const LIMIT_METADATA: &str = "mcpd-limit-ms";

/// Metadata of an error status: the exit code for `mcpctl`, where the status code alone does not tell it.
pub const EXIT_CODE_METADATA: &str = "mcpd-exit-code";

/// The encoded `FileDescriptorSet` of the proto file, for the reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/control.bin"));
