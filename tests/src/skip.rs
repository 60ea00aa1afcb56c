//! Skips tests, or parts of them, that this machine can't run.
//!
//! Every skip is shown on standard error and appended to the file that [`LOG_VARIABLE`] names:
//! `scripts/test.sh` lists that file after the run, and fails in CI for a test that
//! `tests/skips.allowed` does not name.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use mcpd_common::os::{Backend, backend};

/// The environment variable with the path of the list of skipped tests. Without it there is no list.
pub const LOG_VARIABLE: &str = "MCPD_SKIP_LOG";

/// Skips the calling test unless it runs as root. Whether it is skipped.
#[must_use]
pub fn unless_root() -> bool {
    let skipped = !nix::unistd::geteuid().is_root();
    if skipped {
        test("it needs root");
    }
    skipped
}

/// Skips the calling test on the portable backend, which does not promise what is tested; `why`
/// says what it lacks. Whether it is skipped.
#[must_use]
pub fn unless_linux_backend(why: &str) -> bool {
    let skipped = backend() != Backend::Linux;
    if skipped {
        test(&format!("the portable backend: {why}"));
    }
    skipped
}

/// Records that the calling test, or a part of it that `reason` names, is skipped.
///
/// # Panics
///
/// If the skip can't be recorded: it would stay hidden.
#[expect(clippy::print_stderr, reason = "the test runner shows it")]
pub fn test(reason: &str) {
    let name = test_name();
    eprintln!("SKIPPED: {name}: {reason}");
    if let Some(log) = std::env::var_os(LOG_VARIABLE) {
        append(Path::new(&log), &line(&name, reason));
    }
}

/// The runner names the test; under plain `cargo test` the thread carries the name.
fn test_name() -> String {
    let name = std::env::var("NEXTEST_TEST_NAME").ok();
    let name = name.or_else(|| std::thread::current().name().map(str::to_owned));
    name.expect("skipped on the thread of a test")
}

/// One line: test, tab, reason.
fn line(name: &str, reason: &str) -> String {
    let reason: Vec<_> = reason.split_whitespace().collect();
    format!("{name}\t{}\n", reason.join(" "))
}

/// In a single write: tests in other processes append at the same time.
fn append(log: &Path, line: &str) {
    let file = OpenOptions::new().create(true).append(true).open(log);
    let written = file.and_then(|mut file| file.write(line.as_bytes()));
    assert!(matches!(written, Ok(count) if count == line.len()), "{}: {written:?}", log.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_with_several_lines_is_logged_as_one_line() {
        assert_eq!(line("a::b", "no cgroup:\n\tread-only"), "a::b\tno cgroup: read-only\n");
    }

    #[test]
    fn skips_are_appended_and_the_file_is_created() {
        let home = tempfile::tempdir().expect("a temporary directory");
        let log = home.path().join("log");
        append(&log, &line("a", "x"));
        append(&log, &line("b", "y"));
        assert_eq!(std::fs::read_to_string(log).expect("readable"), "a\tx\nb\ty\n");
    }

    #[test]
    fn the_calling_test_is_named() {
        assert_eq!(test_name(), "skip::tests::the_calling_test_is_named");
    }
}
