//! A disk that fills up while the daemon runs (R-LOG-5): work goes on, the shutdown too, and its
//! code is honest.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, http, skip, until};
use serde_json::Value;

/// A disk of 1 MiB that only those in its mount namespace see; gone when its holder is.
struct SmallDisk {
    holder: Child,
}

impl SmallDisk {
    /// State and logs of this home are on it.
    fn below(home: &Path) -> Option<Self> {
        let disk = home.join("disk");
        fs::create_dir(&disk).expect("made");
        for name in ["state", "logs"] {
            std::os::unix::fs::symlink(Path::new("disk").join(name), home.join(name)).expect("linked");
        }
        let script =
            "mount -t tmpfs -o size=1m small \"$1\" && mkdir \"$1/state\" \"$1/logs\" && exec sleep 300";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", script, "sh"]).arg(&disk);
        let holder = unshare.stdin(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let mut disk = Self { holder };
        let seen = disk.path(home).join("disk/logs");
        let is_ready = until("the disk", BOUND, || match disk.holder.try_wait() {
            Ok(None) => seen.exists().then_some(true),
            _ => Some(false),
        });
        is_ready.then_some(disk)
    }

    /// This path as the namespace sees it.
    fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn fill(&self, home: &Path) {
        let mut file = File::create(self.filler(home)).expect("made");
        // Down to the last byte.
        for size in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn empty(&self, home: &Path) {
        fs::remove_file(self.filler(home)).expect("removed");
    }

    fn filler(&self, home: &Path) -> PathBuf {
        self.path(home).join("disk/fill")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A daemon whose state and logs are on a small disk; none where this machine can't make such a disk.
fn daemon_on_a_small_disk(beta: &str) -> Option<(Daemon, SmallDisk)> {
    if skip::unless_root() {
        return None;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let Some(disk) = SmallDisk::below(home.path()) else {
        skip::test("no mount namespace can be made");
        return None;
    };
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", beta);
    let holder = disk.holder.id().to_string();
    let wrapper = ["nsenter", "--mount", "--target", &holder, "--"];
    let command = Daemon::command_below(&wrapper, home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    Some((daemon, disk))
}

#[track_caller]
fn assert_work_goes_on(daemon: &mut Daemon) {
    assert_eq!(http::ask(daemon.port("alpha"), "GET /health").expect("it serves").status, 200);
    daemon.mcpctl(&["restart", "--all"]).expect_code(0);
    daemon.mcpctl(&["health"]).expect_code(0);
    daemon.remember();
}

/// Shuts down, and finds this code everywhere; the result as JSON.
#[track_caller]
fn assert_ends_with(daemon: &mut Daemon, code: u8) -> Value {
    let following = daemon.mcpctl(&["shutdown", "--wait", "--json"]);
    assert_eq!(daemon.wait_exit(LONGEST_SHUTDOWN), code, "{}", daemon.log());
    let result = following.expect_code(code).json_lines().pop().expect("a result");
    assert_eq!(result["daemon_exit_code"], code, "{result}");
    assert!(daemon.log().contains(&format!("shut down code={code}")), "{}", daemon.log());
    daemon.assert_nothing_left(&[]);
    result
}

/// R-LOG-5: the journal, the logs and the report can't be written any more. Workers run, restart and
/// exit; the result names the journal, which could not be closed with everything in it.
#[test]
fn a_full_disk_stops_neither_work_nor_shutdown() {
    let Some((mut daemon, disk)) = daemon_on_a_small_disk("--flood") else { return };
    disk.fill(daemon.home());
    assert_work_goes_on(&mut daemon);
    let result = assert_ends_with(&mut daemon, 6);
    let findings = result["findings"].as_array().expect("findings");
    let failed = |it: &&Value| it["kind"] == "resource_failed" && it["subject"] == "journal";
    assert_eq!(findings.iter().filter(failed).count(), 1, "{result}");
}

/// R-LOG-5: a disk that has room again before the shutdown leaves no finding.
#[test]
fn a_disk_that_has_room_again_leaves_no_finding() {
    let Some((mut daemon, disk)) = daemon_on_a_small_disk("") else { return };
    disk.fill(daemon.home());
    assert_work_goes_on(&mut daemon);
    disk.empty(daemon.home());
    assert_ends_with(&mut daemon, 0);
}
