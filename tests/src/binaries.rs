//! Where the programs under test are.

use std::path::PathBuf;

/// `mcpd`.
pub fn mcpd() -> PathBuf {
    find("mcpd")
}

/// `mcpctl`.
pub fn mcpctl() -> PathBuf {
    find("mcpctl")
}

/// The worker that misbehaves as its flags say.
pub fn fixture_worker() -> PathBuf {
    find("fixture_worker")
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
    let me = std::env::current_exe().expect("a running program has a path");
    let here = me.parent().expect("a program is in a directory");
    if here.ends_with("deps") { here.parent().unwrap_or(here) } else { here }.to_owned()
}
