//! A disk that fills up while the daemon runs: workers and shutdown continue, and the exit code reports it (R-LOG-5).

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, http, skip, until};
use serde_json::Value;

/// A tmpfs of 1 MiB in a mount namespace, which exists as long as its holder process.
struct SmallDisk {
    holder: Child,
}

impl SmallDisk {
    /// Mounts it below this home, for state and logs.
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
        let logs = disk.path(home).join("disk/logs");
        let is_ready = until("the disk", BOUND, || match disk.holder.try_wait() {
            Ok(None) => logs.exists().then_some(true),
            _ => Some(false),
        });
        is_ready.then_some(disk)
    }

    /// The path from outside to this path in the namespace.
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

/// A daemon with state and logs on a small disk; `None` if the test is skipped.
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
fn assert_still_works(daemon: &mut Daemon) {
    assert_eq!(http::request(daemon.port("alpha"), "GET /health").expect("the worker responds").status, 200);
    daemon.mcpctl(&["restart", "--all"]).expect_code(0);
    daemon.mcpctl(&["health"]).expect_code(0);
    daemon.remember();
}

/// Shuts down and checks that all sources have this code; the result as JSON.
#[track_caller]
fn assert_shuts_down_with(daemon: &mut Daemon, code: u8) -> Value {
    let following = daemon.mcpctl(&["shutdown", "--wait", "--json"]);
    assert_eq!(daemon.wait_exit(LONGEST_SHUTDOWN), code, "{}", daemon.log());
    let result = following.expect_code(code).json_lines().pop().expect("a result");
    assert_eq!(result["daemon_exit_code"], code, "{result}");
    assert!(daemon.log().contains(&format!("shut down code={code}")), "{}", daemon.log());
    daemon.assert_nothing_left(&[]);
    result
}

/// R-LOG-5: journal, logs and report can't be written any more. The finding names the journal, because entries are
/// missing in it.
#[test]
fn a_full_disk_stops_neither_work_nor_shutdown() {
    let Some((mut daemon, disk)) = daemon_on_a_small_disk("--flood") else { return };
    disk.fill(daemon.home());
    assert_still_works(&mut daemon);
    let result = assert_shuts_down_with(&mut daemon, 6);
    let findings = result["findings"].as_array().expect("findings");
    let failed = |it: &&Value| it["kind"] == "resource_failed" && it["subject"] == "journal";
    assert_eq!(findings.iter().filter(failed).count(), 1, "{result}");
}

/// R-LOG-5.
#[test]
fn a_disk_that_has_room_again_leaves_no_finding() {
    let Some((mut daemon, disk)) = daemon_on_a_small_disk("") else { return };
    disk.fill(daemon.home());
    assert_still_works(&mut daemon);
    disk.empty(daemon.home());
    assert_shuts_down_with(&mut daemon, 0);
}
