//! The directories that systemd creates for a unit.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;

use mcpd_tests::command::{self, Running};
use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, binaries, until};

/// As systemd names them.
const DIRECTORIES: [&str; 4] =
    ["STATE_DIRECTORY", "RUNTIME_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY"];

/// A program in the environment of a unit whose user has no home.
fn in_unit(program: &Path, root: &Path) -> Command {
    let mut command = Command::new(program);
    let kept = ["PATH", "MCPD_BACKEND", "LLVM_PROFILE_FILE", "TMPDIR"];
    let kept = kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept).env("HOME", root.join("nonexistent")).current_dir("/");
    for name in DIRECTORIES {
        command.env(name, root.join(name));
    }
    command
}

/// The unit's directories, with a configuration that names none of them.
fn unit(config: &ConfigBuilder) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    for name in DIRECTORIES {
        DirBuilder::new().mode(0o700).create(root.path().join(name)).expect("made");
    }
    let file = config.write(root.path());
    let text = fs::read_to_string(&file).expect("readable");
    let (_, rest) = text.split_once("[shutdown]").expect("it has the section");
    let rest = format!("[shutdown]{rest}");
    fs::write(root.path().join("CONFIGURATION_DIRECTORY/config.toml"), rest).expect("written");
    fs::remove_file(file).expect("removed");
    root
}

fn start(root: &Path) -> Running {
    let daemon = command::start(&mut in_unit(&binaries::mcpd(), root));
    until("the control socket", BOUND, || root.join("RUNTIME_DIRECTORY/control.sock").exists().then_some(()));
    daemon
}

/// R-SVC-2. A system user without a home used to get a state directory in a home that was created for it.
#[test]
fn a_unit_without_a_home_uses_its_directories() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let unit = unit(&config);
    let daemon = start(unit.path());
    // `ExecStop=` has the same environment.
    let stop = in_unit(&binaries::mcpctl(), unit.path()).args(["shutdown", "--wait"]).output();
    let stop = stop.expect("mcpctl starts");
    assert_eq!(stop.status.code(), Some(0), "{stop:?}");
    daemon.finish(LONGEST_SHUTDOWN).expect_code(0);
    let names = |directory: &str| {
        let entries = fs::read_dir(unit.path().join(directory)).expect("readable");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect::<Vec<_>>()
    };
    assert!(names("STATE_DIRECTORY").contains(&"last-shutdown.json".to_owned()));
    assert!(!names("STATE_DIRECTORY").contains(&"logs".to_owned()));
    assert!(names("LOGS_DIRECTORY").iter().any(|name| name.starts_with("mcpd-")));
    assert!(names("RUNTIME_DIRECTORY").is_empty(), "the socket is removed");
    assert!(!unit.path().join("nonexistent").exists());
}

/// The variables of an editor's unit reach the programs in its terminal; they are not for these.
#[test]
fn the_directories_of_another_unit_are_not_used() {
    let config = ConfigBuilder::new().fixture("alpha", "");
    let unit = unit(&config);
    let mut mcpctl = in_unit(&binaries::mcpctl(), unit.path());
    // Process 1 is neither mcpctl nor the parent of it.
    let output = command::start(mcpctl.args(["restart", "alpha"]).env("SYSTEMD_EXEC_PID", "1")).finish(BOUND);
    assert_eq!(output.code, Some(69), "{output:?}");
    assert!(!output.stderr.contains("RUNTIME_DIRECTORY"), "{output:?}");
    let output = command::start(mcpctl.env_remove("SYSTEMD_EXEC_PID")).finish(BOUND);
    assert!(output.stderr.contains("RUNTIME_DIRECTORY/control.sock"), "{output:?}");
}
