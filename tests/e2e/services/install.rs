//! `mcpctl service install | uninstall | status`, with stand-ins for the service managers (R-SVC-1).

use std::fs;
use std::path::Path;
use std::process::Command;

use mcpd_tests::{BOUND, ConfigBuilder, Daemon, Output, Signal, command, skip};

use super::standin::Standin;

/// What systemd complains about in a unit.
fn verify(unit: &Path) {
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(unit);
    match verify.output() {
        Ok(output) => {
            let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && complaints.is_empty(), "{complaints}");
        }
        Err(error) => skip::test(&format!("no systemd-analyze: {error}")),
    }
}

#[track_caller]
fn refused(output: Output, code: u8, texts: &[&str]) {
    let output = output.expect_code(code);
    for text in texts {
        assert!(output.stderr.contains(text), "{text:?} is missing: {}", output.stderr);
    }
}

#[test]
fn a_dry_run_shows_the_unit_and_changes_nothing() {
    let standin = Standin::new();
    let before = standin.tree();
    let shown = standin.service(&["install", "--dry-run"]).expect_code(0).stdout;
    for text in ["ExecStart=", "run    systemctl --user enable mcpd.service", "dry run", "/from/the/profile"]
    {
        assert!(shown.contains(text), "{text:?} is missing: {shown}");
    }
    assert_eq!(standin.tree(), before);
    assert_eq!(standin.ran(), [] as [&str; 0]);
}

#[test]
fn an_installation_is_complete_and_idempotent() {
    let standin = Standin::new();
    let first = standin.service(&["install"]).expect_code(0).stdout;
    assert!(first.contains("ExecStart=") && first.contains("installed, and running"), "{first}");
    assert!(first.contains("PATH of the workers, from the login shell"), "{first}");
    assert!(first.contains("loginctl enable-linger"), "it is explained, not done: {first}");
    assert_eq!(
        standin.ran(),
        [
            "systemctl --user show --property=Version",
            "systemctl --user is-active mcpd.service",
            "systemctl --user daemon-reload",
            "systemctl --user enable mcpd.service",
            "systemctl --user start mcpd.service",
        ]
    );
    let unit = standin.read(&standin.unit());
    assert!(unit.contains("\nEnvironment=PATH=/from/the/profile:/"), "{unit}");
    // 10 s + 7 s + 20 s + 5 s + 15 s + 1 s, and 31 s for the guardian.
    assert!(unit.contains("\nTimeoutStopSec=89\n"), "{unit}");
    assert!(!unit.contains("ProtectSystem"), "a sandbox would hold for the workers: {unit}");
    verify(&standin.unit());

    let modified = || fs::metadata(standin.unit()).and_then(|found| found.modified()).expect("there");
    let before = modified();
    standin.set("linger", "yes\n");
    let second = standin.service(&["install"]).expect_code(0).stdout;
    assert!(second.contains("already there, unchanged") && !second.contains("write "), "{second}");
    assert!(!second.contains("enable-linger"), "{second}");
    assert_eq!(modified(), before);
}

#[test]
fn a_new_version_replaces_the_unit_that_mcpctl_wrote() {
    let standin = Standin::new();
    standin.service(&["install", "--path", "/old"]).expect_code(0);
    let again = standin.service(&["install"]).expect_code(0).stdout;
    assert!(again.contains("write "), "{again}");
    assert!(again.contains("keeps its old settings until: systemctl --user restart mcpd.service"), "{again}");
    assert!(!standin.read(&standin.unit()).contains("/old"));
}

#[test]
fn a_unit_that_a_person_changed_is_not_overwritten() {
    let standin = Standin::new();
    standin.service(&["install"]).expect_code(0);
    let edited = standin.read(&standin.unit()).replace("RestartSec=2", "RestartSec=9");
    fs::write(standin.unit(), &edited).expect("written");
    let _ = standin.ran();
    for verb in ["install", "uninstall"] {
        for _ in 0..2 {
            refused(standin.service(&[verb]), 78, &["changed by hand", "systemctl --user edit", "--force"]);
        }
    }
    assert_eq!(standin.read(&standin.unit()), edited);
    assert_eq!(standin.ran(), [] as [&str; 0]);
    let forced = standin.service(&["install", "--force"]).expect_code(0).stdout;
    assert!(forced.contains("copy   "), "{forced}");
    assert!(standin.read(&standin.unit()).contains("RestartSec=2\n"));
    let copy = standin.unit().with_extension("service.edited");
    assert_eq!(standin.read(&copy), edited);
    fs::write(standin.unit(), "[Service]\nExecStart=/bin/true\n").expect("written");
    refused(standin.service(&["install"]), 78, &["not written by mcpctl"]);
    standin.service(&["uninstall", "--force"]).expect_code(0);
    assert!(!standin.unit().exists());
}

#[test]
fn uninstall_leaves_nothing() {
    let standin = Standin::new();
    let before = standin.tree();
    standin.service(&["install"]).expect_code(0);
    let _ = standin.ran();
    let dry = standin.service(&["uninstall", "--dry-run"]).expect_code(0).stdout;
    assert!(dry.contains("run    systemctl --user disable --now mcpd.service"), "{dry}");
    assert!(standin.unit().exists());
    assert_eq!(standin.ran(), [] as [&str; 0]);
    let removed = standin.service(&["uninstall"]).expect_code(0).stdout;
    assert!(removed.contains("uninstalled") && removed.contains("stay: "), "{removed}");
    assert_eq!(standin.tree(), before);
    let again = standin.service(&["uninstall"]).expect_code(0).stdout;
    assert!(again.contains("nothing to do"), "{again}");
}

/// A link whose unit is gone is found as well.
#[test]
fn uninstall_removes_what_a_removed_unit_left() {
    let standin = Standin::new();
    let before = standin.tree();
    standin.service(&["install"]).expect_code(0);
    fs::remove_file(standin.unit()).expect("removed");
    standin.service(&["uninstall"]).expect_code(0);
    assert_eq!(standin.tree(), before);
}

#[test]
fn every_error_says_what_to_do_next() {
    let standin = Standin::new();
    let before = standin.tree();
    standin.set("fail", "Version");
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    let (next, otherwise) =
        if has_systemd { ("log in as this user", "--system") } else { ("boot this machine", "--dry-run") };
    for (verb, otherwise) in [("install", otherwise), ("status", "not installed")] {
        for _ in 0..2 {
            refused(standin.service(&[verb]), 69, &["Failed to connect to bus", next, otherwise]);
        }
    }
    let mut without = standin.command(&["install"]);
    without.env("PATH", "/nowhere");
    let without = command::start(&mut without).finish(BOUND);
    refused(without, 69, &["there is no program systemctl", "--dry-run"]);
    assert_eq!(standin.tree(), before, "nothing was written");

    standin.set("fail", "");
    standin.service(&["install"]).expect_code(0);
    standin.set("fail", "Version");
    refused(standin.service(&["uninstall"]), 69, &["Failed to connect to bus", "mcpd.service by hand"]);
    assert!(standin.unit().exists());
    standin.set("fail", "");
    standin.service(&["uninstall"]).expect_code(0);

    standin.set("fail", "start");
    refused(
        standin.service(&["install"]),
        69,
        &["systemctl --user start", "journalctl --user -u mcpd.service"],
    );
    standin.set("fail", "");
    standin.service(&["uninstall"]).expect_code(0);

    fs::write(standin.home.path().join(".config/mcpd/config.toml"), "nonsense = 1\n[daemon")
        .expect("written");
    refused(standin.service(&["install"]), 78, &["config.toml", "mcpd check-config"]);
    fs::remove_file(standin.home.path().join(".config/mcpd/config.toml")).expect("removed");
    refused(standin.service(&["install"]), 78, &["mcpd init"]);
    assert!(!standin.unit().exists());
}

/// A second daemon would end with 75.
#[test]
fn a_daemon_that_runs_by_itself_is_named() {
    let standin = Standin::new();
    let mut daemon = Daemon::start(ConfigBuilder::new().fixture("alpha", ""));
    let config = daemon.home().join("config.toml").display().to_string();
    let output = standin.service(&["install", "--config", &config]);
    refused(output, 75, &["mcpd runs already", "mcpctl shutdown --wait"]);
    assert!(!standin.unit().exists());
    daemon.signal(Signal::SIGTERM);
    daemon.assert_no_trace(0);
}

#[test]
fn the_status_shows_unit_and_state() {
    let standin = Standin::new();
    let absent = standin.service(&["status"]).expect_code(3).stdout;
    assert!(absent.contains("not installed"), "{absent}");
    standin.service(&["install"]).expect_code(0);
    for _ in 0..2 {
        let shown = standin.service(&["status"]).expect_code(0).stdout;
        for text in ["as mcpctl wrote it", "active (running)", "1 of 1 worker ready", "journalctl --user"] {
            assert!(shown.contains(text), "{text:?} is missing: {shown}");
        }
    }
    let json = standin.service(&["status", "--json"]).expect_code(0).json();
    assert_eq!(json["schema"], "mcpd.service-status.v1");
    assert_eq!(json["properties"]["ActiveState"], "active");
}

#[test]
fn a_system_unit_has_its_user_and_a_sandbox_that_workers_can_live_in() {
    let standin = Standin::new();
    let root = standin.root().display().to_string();
    let config = standin.home.path().join(".config/mcpd/config.toml").display().to_string();
    let args = ["--system", "--root", &root, "--config", &config, "--path", "/opt/node/bin"];
    let install = [&["install", "--run-as", "daemon"][..], &args].concat();
    standin.service(&install).expect_code(0);
    let file = standin.root().join("etc/systemd/system/mcpd.service");
    let unit = standin.read(&file);
    for line in [
        "User=daemon",
        "StateDirectory=mcpd",
        "ProtectSystem=full",
        "CapabilityBoundingSet=",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line:?} is missing: {unit}");
    }
    assert!(standin.ran().contains(&"systemctl start mcpd.service".to_owned()));
    verify(&file);
    let stranger = [&["install", "--run-as", "no-such-user"][..], &args].concat();
    refused(standin.service(&stranger), 64, &["no user no-such-user", "--run-as"]);
    standin.service(&["uninstall", "--system", "--root", &root]).expect_code(0);
    assert!(!file.exists());
}

#[test]
fn a_system_unit_needs_root() {
    if skip::unless_root() {
        return;
    }
    let standin = Standin::new();
    let mut command = standin.command(&["install", "--system"]);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    command.env("HOME", "/");
    refused(command::start(&mut command).finish(BOUND), 77, &["only root", "sudo"]);
}

#[test]
fn an_agent_of_launchd_is_installed_and_removed() {
    let standin = Standin::new();
    let before = standin.tree();
    let file = standin.home.path().join("Library/LaunchAgents/org.mcpd.mcpd.plist");
    for round in 0..2 {
        standin.service(&["install", "--manager", "launchd"]).expect_code(0);
        let bootstraps = standin.ran().iter().filter(|it| it.starts_with("launchctl bootstrap")).count();
        assert_eq!(bootstraps, usize::from(round == 0), "the second installation loads nothing");
    }
    let list = standin.read(&file);
    assert!(list.contains("<string>--launchd</string>") && list.contains("<integer>89</integer>"), "{list}");
    standin.service(&["status", "--manager", "launchd"]).expect_code(0);
    for _ in 0..2 {
        standin.service(&["uninstall", "--manager", "launchd"]).expect_code(0);
    }
    assert!(!file.exists());
    // The directory of all agents is the user's.
    assert_eq!(standin.tree().len(), before.len() + 2);
}
