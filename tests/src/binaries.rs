//! Paths of the programs under test.

use std::path::PathBuf;

/// The path of `mcpd`.
pub fn mcpd() -> PathBuf {
    find("mcpd")
}

/// The path of `mcpctl`.
pub fn mcpctl() -> PathBuf {
    find("mcpctl")
}

/// A worker that misbehaves in the ways that its flags select.
pub fn fixture_worker() -> PathBuf {
    find("fixture_worker")
}

/// A stand-in for a container engine.
pub fn fake_engine() -> PathBuf {
    find("fake_engine")
}

/// A server of the Rust SDK, for benchmarks.
pub fn rmcp_server() -> PathBuf {
    find("rmcp_server")
}

fn find(name: &str) -> PathBuf {
    let path = directory().join(name);
    let display = path.display();
    assert!(path.exists(), "{display} is missing: run `cargo build --workspace --bins` first");
    path
}

/// `target/PROFILE`; the tests themselves are in `deps` below it.
fn directory() -> PathBuf {
    if let Some(named) = std::env::var_os("MCPD_TEST_BIN_DIR") {
        return named.into();
    }
    let program = std::env::current_exe().expect("a running program has a path");
    let directory = program.parent().expect("a program is in a directory");
    if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory }.to_owned()
}
