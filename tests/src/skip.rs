//! Tests that a machine can't run say so.

use mcpd_common::os::{Backend, backend};

/// Whether this runs as root; if not, says that the test was not made.
pub fn is_root_or_skip(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        say(what, "it needs root");
    }
    root
}

/// Whether the kernel's proof is at hand; if not, says that the test was not made.
pub fn is_linux_backend_or_skip(what: &str, why: &str) -> bool {
    let linux = backend() == Backend::Linux;
    if !linux {
        say(what, &format!("the portable backend: {why}"));
    }
    linux
}

/// Says that a part of a test was not made, and why.
#[expect(clippy::print_stderr, reason = "the test runner shows it")]
pub fn say(what: &str, why: &str) {
    eprintln!("SKIPPED: {what}: {why}");
}
