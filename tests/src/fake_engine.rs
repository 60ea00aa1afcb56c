//! A stand-in for a container engine, with clients called `docker` and `podman`.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::config::ConfigBuilder;
use crate::wait::{BOUND, until};
use crate::{WorkerSpec, binaries};

/// A running engine. It is no descendant of the daemon under test, as a real one. On drop, it and its containers are
/// killed.
#[derive(Debug)]
pub struct FakeEngine {
    directory: TempDir,
    child: Child,
}

impl FakeEngine {
    /// Starts it and waits until it answers.
    #[track_caller]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for client in ["docker", "podman"] {
            symlink(binaries::fake_engine(), directory.path().join(client)).expect("linked");
        }
        let mut command = Command::new(binaries::fake_engine());
        command.arg("--serve").arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the engine can be started");
        let engine = Self { directory, child };
        let socket = engine.directory.path().join("socket");
        until("the engine", BOUND, || UnixStream::connect(&socket).ok());
        engine
    }

    /// Adds the clients to the `PATH` of the daemon.
    #[must_use]
    pub fn configure(&self, config: ConfigBuilder) -> ConfigBuilder {
        let directory = self.directory.path().display();
        let path = format!("{directory}:{}", std::env::var("PATH").expect("PATH"));
        config.env("PATH", &path).env("FAKE_ENGINE", &directory.to_string())
    }

    /// A worker in a container: the fixture worker as a server that speaks stdio. `client` is the name of the client with
    /// its global options, `options` are those of `run`.
    pub fn worker(&self, client: &str, options: &str, tag: &str, flags: &str) -> WorkerSpec {
        let server = binaries::fixture_worker().display().to_string();
        let text = format!("{client} run {options} image {server} --stdio --tag {tag} {flags}");
        let words: Vec<_> = text.split_whitespace().collect();
        WorkerSpec::command(words).with("transport = \"stdio\"")
    }

    /// `deaf`: it ends nothing. `silent`: it does not answer.
    pub fn set_mode(&self, mode: &str) {
        fs::write(self.directory.path().join("mode"), mode).expect("written");
    }

    /// Each container: its name, and the pid of its process.
    pub fn containers(&self) -> Vec<(String, Option<i32>)> {
        let text = fs::read_to_string(self.directory.path().join("containers")).unwrap_or_default();
        let container = |line: &str| {
            let mut words = line.split(' ').skip(1);
            let name = words.next()?.to_owned();
            Some((name, words.next()?.parse().ok().filter(|pid| *pid > 0)))
        };
        text.lines().filter_map(container).collect()
    }

    /// Waits until there is exactly one container with a process, and returns its name and pid.
    #[track_caller]
    pub fn only_container(&self) -> (String, i32) {
        until("one container", BOUND, || match &self.containers()[..] {
            [(name, Some(pid))] => Some((name.clone(), *pid)),
            _ => None,
        })
    }

    /// A file of the engine.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for FakeEngine {
    fn drop(&mut self) {
        for pid in self.containers().into_iter().filter_map(|(_, pid)| pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
