//! From a worker's configuration to its launch specification. Pure, except that the daemon's
//! environment is read once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use mcpd_common::config::{Program, Transport, Variables, WorkerConfig};
use mcpd_common::ids::{Port, Slot};
use mcpd_common::os::cgroup::CGROUP_VARIABLE;

use super::operations::LaunchSpec;

/// Variables that concern the daemon itself and are not passed to workers
/// (sd_notify(3), sd_listen_fds(3), systemd.exec(5)). The working directories of the daemon are not those of a worker.
const NOT_FOR_WORKERS: [&str; 12] = [
    "NOTIFY_SOCKET",
    "MCPD_CONFIG",
    HANDOVER_VARIABLE,
    CGROUP_VARIABLE,
    "PWD",
    "OLDPWD",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "JOURNAL_STREAM",
    "SYSTEMD_EXEC_PID",
];
const NOT_FOR_WORKERS_PREFIXES: [&str; 2] = ["WATCHDOG_", "LISTEN_"];
/// Describes the inherited descriptors to the program that replaces the daemon (handover.rs).
pub const HANDOVER_VARIABLE: &str = "MCPD_HANDOVER";
/// The token that the shutdown route of the built-in worker requires.
pub const TOKEN_VARIABLE: &str = "MCPD_SHUTDOWN_TOKEN";

/// What the launch specifications of all workers share.
#[derive(Clone)]
pub struct LaunchEnv {
    /// The path of this program, for built-in workers.
    pub mcpd: PathBuf,
    /// The daemon's environment without the variables that concern the daemon.
    pub env: BTreeMap<OsString, OsString>,
}

impl LaunchEnv {
    ///
    /// # Errors
    /// When the path of this program can't be read.
    pub fn from_this_process() -> std::io::Result<Self> {
        let env = std::env::vars_os().filter(|(key, _)| is_for_workers(key)).collect();
        Ok(Self { mcpd: std::env::current_exe()?, env })
    }

    /// The specification of this worker on this port. `token` is for a built-in worker.
    pub fn worker_spec(
        &self,
        worker: &WorkerConfig,
        variables: &Variables,
        port: Port,
        slot: Slot,
        token: Option<&str>,
        output: Option<OwnedFd>,
    ) -> LaunchSpec {
        let (program, args) = self.command(worker, port);
        let mut env = self.env_in(&worker.repo);
        if worker.transport != Transport::Stdio {
            env.insert("PORT".into(), port.to_string().into());
        }
        env.extend(token.map(|token| (TOKEN_VARIABLE.into(), token.into())));
        env.extend(variables.iter().map(|(key, value)| (key.into(), value.with(port).into())));
        LaunchSpec {
            slot,
            program,
            args,
            directory: worker.repo.clone(),
            env: env.into_iter().collect(),
            output,
            mcp: None,
        }
    }

    /// The specification of a helper command, for instance a `stop_command`.
    pub fn helper_spec(&self, command: &[String], directory: &Path, slot: Slot) -> LaunchSpec {
        let (program, args) = parts(command);
        let env = self.env_in(directory).into_iter().collect();
        LaunchSpec { slot, program, args, directory: directory.to_owned(), env, output: None, mcp: None }
    }

    /// The environment of a process that starts in this directory.
    fn env_in(&self, directory: &Path) -> BTreeMap<OsString, OsString> {
        let mut env = self.env.clone();
        env.insert("PWD".into(), directory.into());
        env
    }

    fn command(&self, worker: &WorkerConfig, port: Port) -> (PathBuf, Vec<OsString>) {
        match &worker.program {
            Program::BuiltIn => {
                let port = port.to_string();
                let args = ["worker".into(), "--repo".into(), worker.repo.clone().into_os_string()];
                (self.mcpd.clone(), args.into_iter().chain(["--port".into(), port.into()]).collect())
            }
            Program::Command(command) => {
                let words: Vec<_> = command.iter().map(|word| word.with(port)).collect();
                parts(&words)
            }
        }
    }
}

fn parts(command: &[String]) -> (PathBuf, Vec<OsString>) {
    let mut parts = command.iter().map(OsString::from);
    (parts.next().unwrap_or_default().into(), parts.collect())
}

fn is_for_workers(key: &std::ffi::OsStr) -> bool {
    let key = key.to_string_lossy();
    !NOT_FOR_WORKERS.contains(&&*key)
        && !NOT_FOR_WORKERS_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}
