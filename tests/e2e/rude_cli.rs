//! `mcpctl` where things are not as they should be: other environments, late answers, other users, no records.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mcpd_tests::daemon::{LONGEST_SHUTDOWN, mcpctl};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, command, repo, until};

/// How `XDG_RUNTIME_DIR` is set: cron and ssh often have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuntimeDir {
    Set,
    Unset,
}

impl RuntimeDir {
    fn apply(self, command: &mut Command) {
        if self == Self::Unset {
            command.env_remove("XDG_RUNTIME_DIR");
        }
    }
}

/// `mcpctl` with the default socket.
fn run_mcpctl(home: &Path, runtime_dir: RuntimeDir, args: &[&str]) -> Output {
    let mut command = mcpctl(home);
    command.env_remove("MCPD_SOCKET").env_remove("MCPD_CONFIG").args(args);
    runtime_dir.apply(&mut command);
    command::start(&mut command).finish(LONGEST_SHUTDOWN)
}

/// A configuration that names the state directory, but no socket.
fn configuration_without_socket(home: &Path) -> PathBuf {
    let repository = home.join("repository");
    repo::init(&repository);
    let file = home.join("mcpd.toml");
    let text = format!(
        "[daemon]\nstate_dir = \"{}\"\n\n[workers.alpha]\nrepo = \"{}\"\n",
        home.join("state").display(),
        repository.display()
    );
    fs::write(&file, text).expect("written");
    file
}

/// R-CLI-1: `mcpctl` finds a daemon that was started in another environment, by the socket in its run file.
#[test]
fn a_daemon_is_found_whether_or_not_both_have_a_runtime_directory() {
    for (daemon_has, client_has) in
        [(RuntimeDir::Unset, RuntimeDir::Set), (RuntimeDir::Set, RuntimeDir::Unset)]
    {
        for with_config in [false, true] {
            let home = tempfile::tempdir().expect("a temporary directory");
            fs::create_dir(home.path().join("run")).expect("made");
            let file = configuration_without_socket(home.path());
            let option = ["--config", file.to_str().expect("plain text")];
            let mut mcpd = Daemon::command(home.path(), &ConfigBuilder::new());
            daemon_has.apply(&mut mcpd);
            if with_config {
                mcpd.args(option);
            } else {
                mcpd.arg("--repo").arg(home.path().join("repository"));
            }
            let daemon = command::start(&mut mcpd);
            let options = if with_config { &option[..] } else { &[] };
            let ask = |args: &[&str]| run_mcpctl(home.path(), client_has, &[args, options].concat());
            let case = format!("daemon {daemon_has:?}, client {client_has:?}, --config: {with_config}");
            until(&format!("an answer: {case}"), BOUND, || (ask(&["status"]).code == Some(0)).then_some(()));
            let output = ask(&["shutdown", "--wait"]).expect_code(0);
            assert!(output.stdout.contains("Exit code 0"), "{case}: {output:?}");
            daemon.finish(LONGEST_SHUTDOWN).expect_code(0);
        }
    }
}

/// A daemon that listens elsewhere is no reason to advise kill(1): its socket is named.
#[test]
fn the_socket_of_the_run_file_is_named_if_another_one_was_asked_for() {
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let other = daemon.home().join("run/other.sock").display().to_string();
    let output = daemon.mcpctl(&["shutdown", "--socket", &other]).expect_code(69);
    let own = daemon.places().socket.display().to_string();
    for named in [&other, &own] {
        assert!(output.stderr.contains(named.as_str()), "{output:?}");
    }
    assert!(!output.stderr.contains("kill"), "{output:?}");
    daemon.assert_shuts_down(0);
}
