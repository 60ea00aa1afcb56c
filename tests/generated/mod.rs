//! Manual pages that tests generate and compare with the files in `docs/man`.
//!
//! Their tests are beside the command lines that they describe, in packages that don't know each other.

pub mod command_page;
pub mod file;
pub mod roff;
