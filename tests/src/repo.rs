//! Small git repositories.

use std::path::Path;
use std::process::{Command, Stdio};

/// Makes a repository with one commit of one file in this directory.
#[track_caller]
pub fn init(directory: &Path) {
    std::fs::create_dir_all(directory).expect("the directory can be made");
    std::fs::write(directory.join("README.md"), "# A repository\n\nhello\n").expect("written");
    git(directory, &["init", "--quiet", "--initial-branch=main"]);
    git(directory, &["add", "."]);
    git(directory, &["commit", "--quiet", "--message=Begin"]);
}

/// Runs git in a directory, without the user's configuration.
#[track_caller]
pub fn git(directory: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=Kim", "-c", "user.email=kim@example.org", "-c", "commit.gpgSign=false"])
        .args(args)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .expect("git can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {stderr}");
}
