//! The same 50 workers under s6, in turns with mcpd.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use mcpd_common::ids::Pid;
use mcpd_common::os::process;
use mcpd_tests::ports::{self, Claim};
use mcpd_tests::{Signal, WorkerSpec, binaries};
use nix::sys::signal::kill;
use tempfile::TempDir;

use crate::options::Options;
use crate::table::{Row, Unit};
use crate::watch::{Watch, millis};
use crate::{alone, print_progress, stop};

const WORKERS: usize = 50;

/// Stops by `SIGTERM`, the only stop request of s6: mcpd, s6, and the ratio of each turn.
pub fn rows(options: &Options) -> Vec<Row> {
    if Command::new("s6-svscanctl").arg("-h").stderr(Stdio::null()).status().is_err() {
        print_progress("s6 is not installed: no comparison");
        return Vec::new();
    }
    let without_route = WorkerSpec::fixture("").with("shutdown_path = \"\"");
    let mut mcpd_times = Vec::new();
    let mut s6_times = Vec::new();
    let mut ratio = Vec::new();
    for _ in 0..options.repeat {
        let mcpd = stop::by_signal(stop::config(WORKERS, &without_route));
        let s6 = Scan::start().stop();
        ratio.push(mcpd / s6);
        mcpd_times.push(mcpd);
        s6_times.push(s6);
    }
    vec![
        Row::without_limit(
            "50 workers stopped by `SIGTERM`, mcpd, whole, verification included",
            Unit::Millis,
            mcpd_times,
        ),
        Row::without_limit("50 workers stopped by `SIGTERM`, s6, whole", Unit::Millis, s6_times),
        Row::new("mcpd / s6, each turn", Unit::Ratio, 1.0, ratio),
    ]
}

/// A running `s6-svscan`.
struct Scan {
    directory: TempDir,
    child: Child,
    ports: Vec<Claim>,
}

impl Scan {
    /// Starts it and waits until all workers respond.
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ports: Vec<Claim> = (0..WORKERS).map(|_| ports::claim()).collect();
        for (number, claim) in ports.iter().enumerate() {
            let service = directory.path().join(format!("w{number:03}"));
            fs::create_dir(&service).expect("a directory can be made");
            let program = binaries::fixture_worker();
            let script =
                format!("#!/bin/sh\nexec '{}' --port {} --tag s6\n", program.display(), claim.port());
            fs::write(service.join("run"), script).expect("a file can be written");
            fs::set_permissions(service.join("run"), Permissions::from_mode(0o755))
                .expect("the file was created here");
        }
        let child = Command::new("s6-svscan")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("s6-svscan can be started");
        let scan = Self { directory, child, ports };
        scan.ports.iter().for_each(|claim| alone::wait_healthy(claim.port()));
        scan
    }

    /// From `s6-svscanctl -t` until the exit of `s6-svscan`, which waits for its supervisors; in milliseconds.
    fn stop(mut self) -> f64 {
        let watch = Watch::on_child(&self.child);
        let begin = Instant::now();
        let status = Command::new("s6-svscanctl").arg("-t").arg(self.directory.path()).status();
        watch.wait();
        let took = begin.elapsed();
        assert!(status.is_ok_and(|status| status.success()), "s6-svscanctl -t failed");
        self.child.wait().expect("a child can be waited for");
        let held = self.ports.iter().filter(|claim| !ports::is_free(claim.port())).count();
        assert_eq!(held, 0, "s6-svscan exited while workers held their ports: no comparison");
        millis(took)
    }
}

impl Drop for Scan {
    /// After a failure. The supervisors are killed first, because they would start their workers again.
    fn drop(&mut self) {
        let Ok(None) = self.child.try_wait() else { return };
        let Some(pid) = Pid::new(self.child.id().cast_signed()) else { return };
        let below = process::best_effort::tree(pid);
        let _ = self.child.kill();
        let _ = self.child.wait();
        for found in below {
            let _ = kill(nix::unistd::Pid::from_raw(found.pid.get()), Signal::SIGKILL);
        }
    }
}
