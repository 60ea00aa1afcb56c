//! Which part of the program may use which.
//!
//! ```text
//! source   reads a file: its code without comments and tests, and the paths in it
//! tree     the files of a crate, and the file that a path leads to
//! rooms    which room of the daemon may use which
//! cycles   files that use each other
//! ```
//!
//! A violation is shown as `file:line: the line`, with the rule.

mod cycles;
mod rooms;
mod source;
mod tree;

use std::path::{Path, PathBuf};

use source::Source;
use tree::Tree;

/// The source of the programs. Their tests may do what they have to.
const CRATES: [&str; 4] = ["common", "proto", "daemon", "cli"];

fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("below the workspace").to_owned()
}

fn tree(name: &str) -> Tree {
    let tree = Tree::read(&workspace(), &format!("{name}/src"));
    assert!(!tree.files().is_empty(), "no source of {name}");
    tree
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n\n{}\n", violations.len(), violations.join("\n\n"));
}

/// Every line that matches, with the rule that it breaks.
fn lines_with(source: &Source, rule: &str, breaks: impl Fn(&str) -> bool) -> Vec<String> {
    source
        .code_lines()
        .filter(|(_, code)| breaks(code))
        .map(|(line, _)| source.violation(line, rule))
        .collect()
}

/// Whether the word is in the line, and not as a part of another one.
fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

#[test]
fn rooms_of_the_daemon_use_only_rooms_that_they_may_use() {
    assert_none(&rooms::violations(&tree("daemon")));
}

#[test]
fn files_of_common_form_no_cycle() {
    assert_none(&cycles::cycles(&tree("common")));
}

#[test]
fn daemon_and_cli_do_not_know_each_other() {
    let mut violations = vec![];
    for (name, other) in [("daemon", "mcpd_cli"), ("cli", "mcpd_daemon")] {
        let rule = format!("{name} never uses {other}");
        let tree = tree(name);
        let lines =
            tree.files().iter().flat_map(|file| lines_with(file, &rule, |line| has_word(line, other)));
        violations.extend(lines);
    }
    assert_none(&violations);
}

#[test]
fn unsafe_code_and_differences_between_systems_are_in_one_folder() {
    let mut violations = vec![];
    for tree in CRATES.map(tree) {
        for file in tree.files().iter().filter(|file| !file.path.starts_with("common/src/os/")) {
            for word in ["unsafe", "target_os"] {
                let rule = format!("`{word}` is only in common/src/os/");
                violations.extend(lines_with(file, &rule, |line| has_word(line, word)));
            }
        }
    }
    assert_none(&violations);
}

#[test]
fn a_word_is_not_a_part_of_another() {
    assert!(has_word("    unsafe { call() }", "unsafe"));
    assert!(has_word("#[cfg(any(target_os = \"x\"))]", "target_os"));
    assert!(!has_word("#![deny(unsafe_code)]", "unsafe"));
}
