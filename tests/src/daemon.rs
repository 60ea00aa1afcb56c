//! Starts a daemon in a home of its own and controls it.
//!
//! The started process becomes the guardian; the daemon is its child. Signals go to the guardian, and the
//! exit code is the guardian's, as for a service manager.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::process::{self, Process};
use mcpd_common::paths::StateDir;
use mcpd_common::run_file::RunFile;
use mcpd_common::status::{StatusReport, WorkerState, WorkerStatus};
use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::command::{self, Output, Running};
use crate::config::{ConfigBuilder, Places};
use crate::trace::Trace;
use crate::wait::{BOUND, until};
use crate::{binaries, init};

mod asserts;

/// Limit of all waits for a shutdown, which takes at most 81 s with the default times.
pub const LONGEST_SHUTDOWN: Duration = Duration::from_secs(90);

/// Limit of the guardian's cleanup after a failed test.
const CLEANUP_LIMIT: Duration = Duration::from_secs(10);

/// A running `mcpd`. On drop, all processes of its run are killed.
#[derive(Debug)]
pub struct Daemon {
    home: TempDir,
    config: ConfigBuilder,
    places: Places,
    child: Child,
    exit: Option<ExitStatus>,
    pid: OnceCell<Pid>,
    trace: Trace,
}

impl Daemon {
    /// Starts a daemon and waits until all workers are ready.
    #[track_caller]
    pub fn start(config: ConfigBuilder) -> Self {
        let mut daemon = Self::launch(config);
        daemon.wait_ready();
        daemon
    }

    /// Starts a daemon without waiting.
    #[track_caller]
    pub fn launch(config: ConfigBuilder) -> Self {
        Self::launch_in(tempfile::tempdir().expect("a temporary directory"), config)
    }

    /// Starts a daemon in a home that may contain files of an earlier run (see [`Self::into_home`]).
    #[track_caller]
    pub fn launch_in(home: TempDir, config: ConfigBuilder) -> Self {
        let command = Self::command(home.path(), &config);
        Self::launch_by(command, home, config)
    }

    /// Starts a daemon by a command that executes `mcpd` (see [`Self::command_below`]); `--config` is added to it.
    #[track_caller]
    pub fn launch_by(command: Command, home: TempDir, config: ConfigBuilder) -> Self {
        let stdout = output_file(home.path(), "stdout");
        let stderr = output_file(home.path(), "stderr");
        Self::launch_writing_to(stdout.into(), stderr.into(), command, home, config)
    }

    /// Like [`Self::launch_by`], with these as standard output and error.
    #[track_caller]
    pub fn launch_writing_to(
        stdout: Stdio,
        stderr: Stdio,
        mut command: Command,
        home: TempDir,
        config: ConfigBuilder,
    ) -> Self {
        init::replace_for_portable_backend();
        let places = Places::below(home.path());
        let run = home.path().join("run");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(run).expect("made");
        let file = config.write(home.path());
        let child = command
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("mcpd can be started");
        let trace = Trace::new(config.tag());
        Self { home, config, places, child, exit: None, pid: OnceCell::new(), trace }
    }

    /// Runs `mcpd` with a configuration that it refuses, and returns its output.
    #[track_caller]
    pub fn refused(home: &Path, config: &ConfigBuilder, args: &[&str]) -> Output {
        let file = config.write(home);
        let mut command = Self::command(home, config);
        command::start(command.arg("--config").arg(file).args(args)).finish(BOUND)
    }

    /// `mcpd` with a clean environment.
    pub fn command(home: &Path, config: &ConfigBuilder) -> Command {
        let mut command = Command::new(binaries::mcpd());
        clean_environment(&mut command, home);
        command.envs(config.variables().iter().cloned());
        command
    }

    /// A command that executes `mcpd` in the end: the wrapper with its arguments, then `mcpd`.
    pub fn command_below(wrapper: &[&str], home: &Path, config: &ConfigBuilder) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(binaries::mcpd());
        clean_environment(&mut command, home);
        command.envs(config.variables().iter().cloned());
        command
    }

    /// The directory with configuration, state, logs and repositories.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The paths of the daemon.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The state directory.
    pub fn state(&self) -> StateDir {
        StateDir::new(&self.places.state_dir)
    }

    /// The process that was started: the guardian.
    pub fn guardian(&self) -> Pid {
        Pid::new(self.child.id().cast_signed()).expect("a child's pid is positive")
    }

    /// The daemon's own process; waits until it exists.
    #[track_caller]
    pub fn pid(&self) -> Pid {
        *self.pid.get_or_init(|| until("the daemon's process", BOUND, || self.find_pid()))
    }

    /// The daemon's own process, if it exists now.
    pub fn find_pid(&self) -> Option<Pid> {
        let program = fs::canonicalize(binaries::mcpd()).ok();
        let children = process::best_effort::children(self.guardian());
        let is_mcpd = |pid: &Pid| fs::read_link(format!("/proc/{pid}/exe")).ok() == program;
        children.into_iter().find(is_mcpd)
    }

    /// The client port of a worker.
    #[track_caller]
    pub fn port(&self, worker: &str) -> Port {
        let ports = self.config.ports();
        let found = ports.iter().find(|(name, _)| name == worker);
        found.unwrap_or_else(|| panic!("no worker {worker}")).1
    }

    /// Standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("stderr")).unwrap_or_default()
    }

    /// Waits until a text is in the log: a thread of its own writes it, behind what is logged.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        self.wait_log_line(text, |line| line.contains(text));
    }

    /// Waits for a line of the log.
    #[track_caller]
    pub fn wait_log_line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        until(&format!("{what:?} in the log"), BOUND, || {
            self.log().lines().find(|line| wanted(line)).map(str::to_owned)
        })
    }

    /// Records the daemon's current descendants for [`Self::assert_no_trace`].
    pub fn remember(&mut self) {
        let pid = self.pid.get().copied().or_else(|| self.find_pid());
        if let (Some(pid), None) = (pid, self.exit) {
            let _known = self.pid.set(pid);
            self.trace.remember(pid);
        }
        if let Ok(Some(run_file)) = RunFile::read(&self.state().run_file()) {
            self.trace.set_run(run_file.run.tag());
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

    /// Waits until a worker is in this state, and returns its status.
    #[track_caller]
    pub fn wait_state(&mut self, worker: &str, state: WorkerState) -> WorkerStatus {
        let named = |status: &StatusReport| {
            status.workers.iter().find(|it| it.name.as_str() == worker && it.state == state).cloned()
        };
        let what = format!("{worker} to be {}", state.name());
        let status = self.wait_status(&what, |status| named(status).is_some());
        named(&status).expect("it was there")
    }

    /// Waits until `wanted` holds for the status, and returns the status.
    #[track_caller]
    pub fn wait_status(&mut self, what: &str, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
        let status = until(what, BOUND, || {
            if let Some(exit) = self.poll_exit() {
                panic!("mcpd exited ({exit}) before {what}:\n{}", self.log());
            }
            let status = self.try_status()?;
            wanted(&status).then_some(status)
        });
        self.remember();
        status
    }

    /// The output of `mcpctl status`, if the daemon responds.
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

    /// Sends a signal to the guardian, which forwards it.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.remember();
        // The guardian is not reaped yet, so its pid is not reused.
        kill(nix::unistd::Pid::from_raw(self.guardian().get()), signal).expect("it can be signalled");
    }

    /// Sends a signal to the daemon's own process, without the guardian.
    #[track_caller]
    pub fn signal_daemon(&mut self, signal: Signal) {
        let pid = self.pid();
        self.remember();
        // Fails if the guardian has reaped the daemon, which is just exiting then.
        let _ = kill(nix::unistd::Pid::from_raw(pid.get()), signal);
    }

    /// Kills daemon and guardian so that neither can clean up, and waits for both.
    #[track_caller]
    pub fn kill_both(&mut self) {
        // A stopped daemon can't react to the death of its guardian.
        self.signal_daemon(Signal::SIGSTOP);
        self.signal(Signal::SIGKILL);
        until("the guardian to be gone", BOUND, || self.poll_exit());
        let pid = self.pid();
        self.signal_daemon(Signal::SIGKILL);
        let gone = || process::best_effort::read(pid).is_none_or(|found| found.state == 'Z');
        until("the daemon to be gone", BOUND, || gone().then_some(()));
    }

    /// Whether the guardian has exited and is not reaped yet.
    pub fn guardian_is_a_zombie(&self) -> bool {
        process::best_effort::read(self.guardian()).is_some_and(|found| process::is_zombie(&found))
    }

    /// The exit status of the guardian, if it has exited.
    pub fn poll_exit(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.child.try_wait().expect("a child can be waited for");
        }
        self.exit
    }

    /// Waits until the guardian exits, up to this limit, and returns the exit code.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> u8 {
        let exit = until("mcpd to exit", limit, || self.poll_exit());
        let code = exit.code().and_then(|code| u8::try_from(code).ok());
        code.unwrap_or_else(|| panic!("mcpd was ended by {exit}:\n{}", self.log()))
    }

    /// All processes of this run without the daemon itself, found from outside.
    pub fn processes(&self) -> Vec<Process> {
        let me = self.pid();
        self.trace.remaining().into_iter().filter(|found| found.pid != me).collect()
    }

    /// Starts the daemon again at once, with the same configuration and home.
    #[track_caller]
    pub fn launch_again(self) -> Self {
        let (home, config) = self.into_home();
        Self::launch_in(home, config)
    }

    /// Returns the home and the configuration, with the claimed ports, for another run.
    #[track_caller]
    pub fn into_home(mut self) -> (TempDir, ConfigBuilder) {
        assert!(self.poll_exit().is_some(), "mcpd is still running");
        // Dropping this trace must not kill anything: the next run has the same tag, and has to find what is left.
        self.trace = Trace::of_no_run();
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

/// Keeps only the variables that the programs need, and sets their home.
fn clean_environment(command: &mut Command, home: &Path) {
    let kept = ["PATH", "MCPD_BACKEND", "LLVM_PROFILE_FILE", "TMPDIR", "RUST_BACKTRACE"];
    let kept = kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept).env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run"));
}

fn output_file(home: &Path, name: &str) -> File {
    File::options().create(true).append(true).open(home.join(name)).expect("a file can be made")
}

impl Daemon {
    /// Kills the daemon, so that the guardian cleans up; then the guardian.
    fn end(&mut self) {
        let raw = |pid: Pid| nix::unistd::Pid::from_raw(pid.get());
        let daemon = self.pid.get().copied().filter(|pid| self.find_pid() == Some(*pid));
        if let Some(pid) = daemon {
            // It is still a child of its guardian, so its pid is not reused.
            let _ = kill(raw(pid), Signal::SIGKILL);
            let end = std::time::Instant::now() + CLEANUP_LIMIT;
            while self.poll_exit().is_none() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.poll_exit().is_none() {
            self.remember();
            self.end();
        }
        self.trace.kill_remaining();
        if std::thread::panicking() {
            show(&self.log());
        }
    }
}

#[expect(clippy::print_stderr, reason = "the test runner shows it with the failed test")]
fn show(log: &str) {
    eprintln!("--- standard error of mcpd ---\n{log}---");
}
