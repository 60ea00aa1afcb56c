//! The daemon under test with its workers, a small disk and a clock that can be set.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mcpd_common::ids::{Pid, Port};
use mcpd_common::status::{StatusReport, WorkerState};
use mcpd_tests::{BOUND, ConfigBuilder, Daemon, WorkerSpec, until};

use crate::level::Level;
use crate::print;

/// Always running, behind the front door.
pub const SERVERS: [&str; 3] = ["alpha", "beta", SHARED];
/// The one of them that speaks stdio.
pub const SHARED: &str = "shared";
/// Always running.
pub const STEADY: [&str; 5] = ["alpha", "beta", SHARED, "tree", "escapes"];
/// Running during an action only.
pub const TEMPORARY: [&str; 2] = ["flood", "crashes"];

/// The path of Debian's libfaketime; without it the clock does not jump.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// Longer than the timeout of idle threads and connections.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// The size of the disk that the logs are on.
const DISK: &str = "size=24m";

/// What the actions work with.
pub struct Stage {
    /// The daemon.
    pub daemon: Daemon,
    /// The daemon's process, which never changes.
    pub pid: Pid,
    clock: Option<PathBuf>,
    disk: Option<PathBuf>,
}

impl Stage {
    /// Starts the daemon and waits until the steady workers are ready.
    pub fn build() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let clock = Path::new(FAKETIME).exists().then(|| home.path().join("clock"));
        let mut config = ConfigBuilder::new().times(Duration::from_secs(2), Duration::from_secs(4));
        if let Some(clock) = &clock {
            set(clock, "+0");
            config = config
                .env("LD_PRELOAD", FAKETIME)
                .env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string())
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        } else {
            print("no libfaketime (apt-get install faketime): the clock does not jump");
        }
        let http = |flags: &str| WorkerSpec::fixture(&format!("--mcp {flags}")).with("transport = \"http\"");
        let config = config
            .worker("alpha", http(""))
            .worker("beta", http("--start-delay 200"))
            .worker(SHARED, WorkerSpec::stdio(""))
            .fixture("tree", "--tree 2 3 --zombies 3")
            .fixture("escapes", "--escape 2 --escape-polite 1")
            .fixture("flood", "--flood")
            .fixture("crashes", "--crash-after 300");
        let logs = home.path().join("logs");
        fs::create_dir_all(&logs).expect("made");
        let is_root = nix::unistd::geteuid().is_root();
        let command = if is_root {
            let mount = format!("mount -t tmpfs -o {DISK} none {} && exec \"$@\"", logs.display());
            Daemon::command_below(&["unshare", "--mount", "sh", "-c", &mount, "sh"], home.path(), &config)
        } else {
            print("not root: the disk does not fill up");
            Daemon::command(home.path(), &config)
        };
        let mut daemon = Daemon::launch_by(command, home, config);
        let pid = daemon.pid();
        daemon.wait_status("the steady workers", |status| are_ready(status, &STEADY));
        let disk = is_root.then(|| PathBuf::from(format!("/proc/{pid}/root{}", logs.display())));
        Self { daemon, pid, clock, disk }
    }

    /// Checks that the daemon is still the process that was started.
    pub fn assert_same_daemon(&mut self) {
        assert!(self.daemon.poll_exit().is_none(), "mcpd has exited:\n{}", self.daemon.log());
        assert_eq!(self.daemon.find_pid(), Some(self.pid), "the pid of the daemon");
    }

    /// Waits until the temporary workers are stopped, the others are ready, and the level is stable. With an earlier level,
    /// also waits until the level is not higher, because idle threads exit after some seconds.
    pub fn settle(&mut self, before: Option<&Level>) -> Level {
        self.set_clock("+0");
        for worker in TEMPORARY {
            self.daemon.mcpctl(&["stop", worker]);
        }
        for worker in STEADY {
            self.daemon.mcpctl(&["start", worker]);
        }
        let settled = |status: &StatusReport| {
            let gone = TEMPORARY.iter().all(|name| state_of(status, name) == Some(WorkerState::Stopped));
            gone && are_ready(status, &STEADY)
        };
        self.daemon.wait_status("the workers to be stopped or ready", settled);
        let pid = self.pid;
        let end = Instant::now() + IDLE_LIMIT;
        until("the level to be stable", BOUND, || {
            let first = Level::of(pid);
            std::thread::sleep(Duration::from_secs(1));
            let level = Level::of(pid);
            let is_down = before.is_none_or(|before| level.exceeds(before).is_none());
            (first.is_same_but_memory(&level) && (is_down || Instant::now() > end)).then_some(level)
        })
    }

    /// Shuts the daemon down. The code is 3, because the worker `escapes` always has descendants that need `SIGKILL`.
    pub fn end(mut self) {
        self.daemon.remember();
        let output = self.daemon.mcpctl(&["shutdown", "--wait"]);
        assert_eq!(self.daemon.wait_exit(BOUND), 3, "{output:?}");
        output.expect_code(3);
        self.daemon.assert_nothing_left(&[]);
    }

    /// A server's port.
    pub fn port(&self, server: &str) -> Port {
        self.daemon.port(server)
    }

    /// The pid of a worker's leader, if it is running.
    pub fn leader(&mut self, worker: &str) -> Option<Pid> {
        let status = self.daemon.try_status()?;
        status.workers.iter().find(|found| found.name.as_str() == worker)?.pid
    }

    /// Sets the clock of daemon and workers, for example "+1d", "-2h" or "+0".
    pub fn set_clock(&self, to: &str) {
        if let Some(clock) = &self.clock {
            set(clock, to);
        }
    }

    /// A directory on the small disk.
    pub fn disk(&self) -> Option<&Path> {
        self.disk.as_deref()
    }
}

/// Atomically, so that no process reads an incomplete file.
fn set(clock: &Path, to: &str) {
    let new = clock.with_extension("new");
    fs::write(&new, format!("{to}\n")).expect("written");
    fs::rename(&new, clock).expect("renamed");
}

fn are_ready(status: &StatusReport, workers: &[&str]) -> bool {
    workers.iter().all(|name| state_of(status, name) == Some(WorkerState::Ready))
}

fn state_of(status: &StatusReport, worker: &str) -> Option<WorkerState> {
    status.workers.iter().find(|found| found.name.as_str() == worker).map(|found| found.state)
}
