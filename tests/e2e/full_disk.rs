//! A disk that fills up while the daemon runs (R-LOG-5): work goes on, the shutdown too, and its
//! code is honest.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mcpd_tests::daemon::LONGEST_SHUTDOWN;
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, http, skip, until};

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
        let mut file = File::create(self.path(home).join("disk/fill")).expect("made");
        // Down to the last byte.
        for size in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// R-LOG-5: journal, logs and report can't be written any more; workers run, are restarted and
/// leave, and what could not be written is said where it can be.
#[test]
fn a_full_disk_stops_neither_work_nor_shutdown() {
    if skip::unless_root() {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary directory");
    let Some(disk) = SmallDisk::below(home.path()) else {
        return skip::test("no mount namespace can be made");
    };
    let config = ConfigBuilder::new().fixture("alpha", "").fixture("beta", "--flood");
    let holder = disk.holder.id().to_string();
    let wrapper = ["nsenter", "--mount", "--target", &holder, "--"];
    let command = Daemon::command_below(&wrapper, home.path(), &config);
    let mut daemon = Daemon::launch_by(command, home, config);
    daemon.wait_ready();
    disk.fill(daemon.home());

    assert_eq!(http::ask(daemon.port("alpha"), "GET /health").expect("it serves").status, 200);
    daemon.mcpctl(&["restart", "--all"]).expect_code(0);
    daemon.mcpctl(&["health"]).expect_code(0);
    daemon.remember();
    let watching = daemon.mcpctl(&["shutdown", "--wait", "--json"]);
    let code = daemon.wait_exit(LONGEST_SHUTDOWN);
    assert_eq!(watching.code, Some(code.into()), "{watching:?}");
    let events = watching.json_lines();
    let result = events.last().expect("a result");
    assert_eq!(result["daemon_exit_code"], code, "{result}");
    assert!(code == 0 || code == 6, "{result}");
    assert!(daemon.log().contains(&format!("shut down code={code}")), "{}", daemon.log());
    daemon.assert_nothing_left(&[]);
}
