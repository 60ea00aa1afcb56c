//! A daemon in a home of its own, and what can be done to it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use mcpd_common::exit_code;
use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::Backend;
use mcpd_common::os::process::Process;
use mcpd_common::outcome::ShutdownReport;
use mcpd_common::paths::StateDir;
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::command::{self, Output, Running};
use crate::config::{ConfigBuilder, Places};
use crate::trace::Trace;
use crate::wait::{BOUND, until};
use crate::{binaries, ports};

/// The longest a default shutdown can take is 81 s; nothing in a test waits longer.
pub const LONGEST_SHUTDOWN: Duration = Duration::from_secs(90);

/// A running `mcpd`. Dropped while it runs, it and all of its run is killed.
#[derive(Debug)]
pub struct Daemon {
    home: TempDir,
    config: ConfigBuilder,
    places: Places,
    child: Child,
    exit: Option<ExitStatus>,
    trace: Trace,
}

impl Daemon {
    /// Starts it and waits until all workers are ready.
    #[track_caller]
    pub fn start(config: ConfigBuilder) -> Self {
        let mut daemon = Self::launch(config);
        daemon.wait_ready();
        daemon
    }

    /// Starts it and waits for nothing.
    #[track_caller]
    pub fn launch(config: ConfigBuilder) -> Self {
        Self::launch_in(tempfile::tempdir().expect("a temporary directory"), config)
    }

    /// Starts it in a home that may hold things of an earlier run (see [`Self::into_home`]).
    #[track_caller]
    pub fn launch_in(home: TempDir, config: ConfigBuilder) -> Self {
        let command = Self::command(home.path(), &config);
        Self::launch_by(command, home, config)
    }

    /// Starts it by a command that becomes `mcpd` (see [`Self::command_below`]); the configuration
    /// is added.
    #[track_caller]
    pub fn launch_by(mut command: Command, home: TempDir, config: ConfigBuilder) -> Self {
        let places = Places::below(home.path());
        fs::create_dir_all(home.path().join("run")).expect("made");
        let file = config.write(home.path());
        let child = command
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(output_file(home.path(), "stdout"))
            .stderr(output_file(home.path(), "stderr"))
            .spawn()
            .expect("mcpd can be started");
        let trace = Trace::new(config.tag());
        Self { home, config, places, child, exit: None, trace }
    }

    /// Runs `mcpd` with this configuration where it can't start; what it says.
    #[track_caller]
    pub fn refused(home: &Path, config: &ConfigBuilder, args: &[&str]) -> Output {
        let file = config.write(home);
        let mut command = Self::command(home, config);
        command::start(command.arg("--config").arg(file).args(args)).finish(BOUND)
    }

    /// `mcpd` with an environment that holds nothing of the user's own.
    pub fn command(home: &Path, config: &ConfigBuilder) -> Command {
        let mut command = Command::new(binaries::mcpd());
        clean_environment(&mut command, home);
        command.envs(config.variables().iter().cloned());
        command
    }

    /// The same below another program, which gives its process to `mcpd`: its words come first.
    pub fn command_below(wrapper: &[&str], home: &Path, config: &ConfigBuilder) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(binaries::mcpd());
        clean_environment(&mut command, home);
        command.envs(config.variables().iter().cloned());
        command
    }

    /// Its home: configuration, state, logs, repositories.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its places.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// What is in its state directory.
    pub fn state(&self) -> StateDir {
        StateDir::new(&self.places.state_dir)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::new(self.child.id().cast_signed()).expect("a child's pid is positive")
    }

    /// The port of a worker.
    #[track_caller]
    pub fn port(&self, worker: &str) -> Port {
        let ports = self.config.ports();
        let found = ports.iter().find(|(name, _)| name == worker);
        found.unwrap_or_else(|| panic!("no worker {worker}")).1
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }

    /// Remembers the processes below it, for [`Self::assert_no_trace`].
    pub fn remember(&mut self) {
        if self.exit.is_none() {
            let pid = self.pid();
            self.trace.remember(pid);
        }
    }

    /// Waits until every worker is ready.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let all = self.config.ports().len();
        self.wait_status("all workers to be ready", |status| {
            let ready = status.workers.iter().filter(|worker| worker.state == WorkerState::Ready);
            ready.count() == all
        });
    }

    /// Waits until a worker is in this state; the worker then.
    #[track_caller]
    pub fn wait_state(&mut self, worker: &str, state: WorkerState) -> WorkerStatus {
        let named = |status: &StatusReport| {
            status.workers.iter().find(|it| it.name.as_str() == worker && it.state == state).cloned()
        };
        let what = format!("{worker} to be {}", state.name());
        let status = self.wait_status(&what, |status| named(status).is_some());
        named(&status).expect("just seen")
    }

    /// Waits until the status is as wanted; the status then.
    #[track_caller]
    pub fn wait_status(&mut self, what: &str, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
        let status = until(what, BOUND, || {
            if let Some(exit) = self.poll_exit() {
                panic!("mcpd ended ({exit}) before {what}:\n{}", self.log());
            }
            let status = self.try_status()?;
            wanted(&status).then_some(status)
        });
        self.remember();
        status
    }

    /// What `mcpctl status` says, if the daemon answers yet.
    pub fn try_status(&mut self) -> Option<StatusReport> {
        let output = self.mcpctl(&["status", "--json"]);
        let status: StatusReport = serde_json::from_str(&output.stdout).ok()?;
        let run = status.daemon.as_ref()?.run;
        self.trace.set_run(run.tag());
        Some(status)
    }

    /// Runs `mcpctl` with these arguments against this daemon.
    #[track_caller]
    pub fn mcpctl(&self, args: &[&str]) -> Output {
        self.mcpctl_start(args).finish(LONGEST_SHUTDOWN)
    }

    /// Starts `mcpctl` with these arguments against this daemon.
    #[track_caller]
    pub fn mcpctl_start(&self, args: &[&str]) -> Running {
        command::start(mcpctl(self.home.path()).args(args))
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.remember();
        // Not waited for yet, so the pid is still its own.
        kill(nix::unistd::Pid::from_raw(self.pid().get()), signal).expect("it can be signalled");
    }

    /// How it ended, if it has.
    pub fn poll_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("a child can be waited for");
        }
        self.exit
    }

    /// Waits for its end; its exit code.
    #[track_caller]
    pub fn wait_exit(&mut self, bound: Duration) -> u8 {
        let exit = until("mcpd to end", bound, || self.poll_exit());
        let code = exit.code().and_then(|code| u8::try_from(code).ok());
        code.unwrap_or_else(|| panic!("mcpd ended by {exit}:\n{}", self.log()))
    }

    /// The report of the shutdown, from `last-shutdown.json`.
    #[track_caller]
    pub fn report(&self) -> ShutdownReport {
        let file = self.state().last_shutdown();
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Waits for its end, and finds this code and nothing else: no process, no zombie, no port, no
    /// socket file, no run file, no open journal; and process, report and findings agree.
    #[track_caller]
    pub fn assert_no_trace(&mut self, expected: u8) -> ShutdownReport {
        self.assert_no_trace_but(expected, &[])
    }

    /// The same for a test that holds these workers' ports itself.
    #[track_caller]
    pub fn assert_no_trace_but(&mut self, expected: u8, held: &[&str]) -> ShutdownReport {
        let report = self.assert_ended(expected);
        self.assert_nothing_left(held);
        assert!(report.proof.is_some() || report.backend == Backend::Portable, "no proof: {report:#?}");
        assert!(report.own.leaked.is_empty(), "the daemon leaked: {:?}", report.own.leaked);
        report
    }

    /// Waits for its end; process, report and findings agree on this code. What it may have left is
    /// another question: see [`Self::assert_nothing_left`].
    #[track_caller]
    pub fn assert_ended(&mut self, expected: u8) -> ShutdownReport {
        let code = self.wait_exit(LONGEST_SHUTDOWN);
        let report = self.report();
        assert_eq!(code, expected, "exit code; findings: {:#?}", report.findings);
        assert_eq!(report.exit_code, code, "last-shutdown.json against the process");
        assert_eq!(
            exit_code::of(&report.findings),
            code,
            "findings against the code: {:#?}",
            report.findings
        );
        report
    }

    /// Finds nothing of it from outside, however it ended.
    #[track_caller]
    pub fn assert_nothing_left(&self, held: &[&str]) {
        let left = self.trace.remaining_described();
        assert!(left.is_empty(), "processes are left:\n{}", left.join("\n"));
        for (name, port) in self.config.ports() {
            let refused = ports::held(port);
            assert!(held.contains(&name.as_str()) || refused.is_empty(), "port of {name}: {refused:?}");
        }
        let wal = PathBuf::from(format!("{}-wal", self.state().journal().display()));
        let is_open = fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
        assert!(!is_open, "the journal was not closed: {} is not empty", wal.display());
        for file in [self.places.socket.clone(), self.state().run_file()] {
            assert!(!file.exists(), "{} is left", file.display());
        }
    }

    /// `mcpctl shutdown --wait`; then [`Self::assert_no_trace`], and `mcpctl` says the same code.
    #[track_caller]
    pub fn assert_shuts_down(&mut self, expected: u8) -> ShutdownReport {
        let output = self.mcpctl(&["shutdown", "--wait"]);
        let report = self.assert_no_trace(expected);
        assert_eq!(output.code, Some(expected.into()), "mcpctl disagrees: {output:?}");
        report
    }

    /// Everything of this run that is there now but the daemon itself, seen from outside.
    pub fn processes(&self) -> Vec<Process> {
        let me = self.pid();
        self.trace.remaining().into_iter().filter(|found| found.pid != me).collect()
    }

    /// Starts it anew, as it was and where it was, without any pause.
    #[track_caller]
    pub fn launch_again(self) -> Self {
        let (home, config) = self.into_home();
        Self::launch_in(home, config)
    }

    /// Its home for another run, and its configuration with the claimed ports.
    #[track_caller]
    pub fn into_home(mut self) -> (TempDir, ConfigBuilder) {
        assert!(self.poll_exit().is_some(), "mcpd runs still");
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().expect("a temporary directory"));
        (home, std::mem::take(&mut self.config))
    }
}

/// `mcpctl` for the daemon with this home.
pub fn mcpctl(home: &Path) -> Command {
    let mut command = Command::new(binaries::mcpctl());
    clean_environment(&mut command, home);
    command.env("MCPD_SOCKET", Places::below(home).socket).env("MCPD_CONFIG", home.join("config.toml"));
    command
}

/// Only what programs need to run, and a home of their own.
fn clean_environment(command: &mut Command, home: &Path) {
    let kept = ["PATH", "MCPD_BACKEND", "LLVM_PROFILE_FILE", "TMPDIR", "RUST_BACKTRACE"];
    let kept = kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept).env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run"));
}

fn output_file(home: &Path, name: &str) -> File {
    File::options().create(true).append(true).open(home.join(name)).expect("a file can be made")
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.poll_exit().is_none() {
            self.remember();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.trace.kill_remaining();
        if std::thread::panicking() {
            show(&self.log());
        }
    }
}

#[expect(clippy::print_stderr, reason = "the test runner shows it with the failed test")]
fn show(log: &str) {
    eprintln!("--- what mcpd wrote ---\n{log}---");
}
