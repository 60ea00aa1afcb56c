//! Files of the repository that tests generate.

use std::fs;
use std::path::Path;

/// Set to rewrite the files: `MCPD_UPDATE_DOCS=1 cargo nextest run -E 'test(is_up_to_date)'`.
const UPDATE: &str = "MCPD_UPDATE_DOCS";

/// Compares a file of the repository with what it has to contain.
#[track_caller]
pub fn assert_up_to_date(path: &str, expected: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("below the workspace");
    let file = root.join(path);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, expected).expect("writable");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let line =
        found.lines().zip(expected.lines()).take_while(|(found, expected)| found == expected).count() + 1;
    assert!(
        found == expected,
        "{path} is out of date from line {line} on: {UPDATE}=1 cargo nextest run -E 'test(is_up_to_date)'"
    );
}
