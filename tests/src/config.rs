//! Builds configuration files: workers with their ports and repositories, and other sections as TOML.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mcpd_common::ids::Port;

use crate::ports::{self, Claim};
use crate::{binaries, repo};

/// The configuration of a worker.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    program: Program,
    keys: String,
}

#[derive(Clone, Debug)]
enum Program {
    BuiltIn,
    Fixture(Vec<String>),
    /// The fixture worker, without a port.
    Stdio(Vec<String>),
    Command(Vec<String>),
}

impl WorkerSpec {
    /// The built-in repository worker.
    pub fn built_in() -> Self {
        Self { program: Program::BuiltIn, keys: String::new() }
    }

    /// The fixture worker with these flags, separated by blanks, with the probe `/health` and the stop request
    /// `/shutdown`.
    pub fn fixture(flags: &str) -> Self {
        let flags = flags.split_whitespace().map(str::to_owned).collect();
        Self { program: Program::Fixture(flags), keys: String::new() }
            .with("ready = \"http:/health\"")
            .with("shutdown_path = \"/shutdown\"")
    }

    /// The fixture worker with these flags, as a server that speaks stdio.
    pub fn stdio(flags: &str) -> Self {
        let flags = flags.split_whitespace().map(str::to_owned).collect();
        Self { program: Program::Stdio(flags), keys: String::new() }.with("transport = \"stdio\"")
    }

    /// Any command, unchanged.
    pub fn command<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { program: Program::Command(command), keys: String::new() }
    }

    /// Adds a line of TOML; it replaces a line with the same key.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
        let kept: String = self.keys.split_inclusive('\n').filter(|it| key(it) != key(line)).collect();
        self.keys = format!("{kept}{line}\n");
        self
    }
}

/// The configuration of a daemon.
#[derive(Debug)]
pub struct ConfigBuilder {
    workers: Vec<(String, WorkerSpec, Claim)>,
    shutdown: String,
    top: String,
    env: Vec<(String, String)>,
    tag: String,
}

impl Default for ConfigBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigBuilder {
    /// Without any worker.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let nanos = jiff::Timestamp::now().as_nanosecond();
        let tag = format!("t{}-{}-{nanos}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self { workers: Vec::new(), shutdown: String::new(), top: String::new(), env: Vec::new(), tag }
    }

    /// Adds a worker on a claimed port.
    #[must_use]
    pub fn worker(self, name: &str, spec: WorkerSpec) -> Self {
        self.worker_on(name, spec, ports::claim())
    }

    /// Adds a worker on this port.
    #[must_use]
    pub fn worker_on(mut self, name: &str, spec: WorkerSpec, port: Claim) -> Self {
        self.workers.push((name.to_owned(), spec, port));
        self
    }

    /// Adds a fixture worker.
    #[must_use]
    pub fn fixture(self, name: &str, flags: &str) -> Self {
        self.worker(name, WorkerSpec::fixture(flags))
    }

    /// Adds a line to `[shutdown]`.
    #[must_use]
    pub fn shutdown(mut self, line: &str) -> Self {
        self.shutdown.push_str(line);
        self.shutdown.push('\n');
        self
    }

    /// Sets the graceful time, the time for `SIGTERM`, and one second for the clients.
    #[must_use]
    pub fn times(self, graceful: Duration, term: Duration) -> Self {
        let millis = |time: Duration| time.as_millis();
        self.shutdown(&format!("worker_graceful = \"{}ms\"", millis(graceful)))
            .shutdown(&format!("worker_total = \"{}ms\"", millis(graceful + term)))
            .shutdown("clients = \"1s\"")
    }

    /// Adds sections at the end, as TOML.
    #[must_use]
    pub fn toml(mut self, text: &str) -> Self {
        self.top.push_str(text);
        self.top.push('\n');
        self
    }

    /// Adds a variable to the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The tag in the command line of every process of the fixture workers.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The variables of the daemon's environment.
    pub fn variables(&self) -> &[(String, String)] {
        &self.env
    }

    /// The ports of the workers, by name.
    pub fn ports(&self) -> Vec<(String, Port)> {
        self.workers.iter().map(|(name, _, claim)| (name.clone(), claim.port())).collect()
    }

    /// The configuration as TOML, with all paths below `home`.
    pub fn to_toml(&self, home: &Path) -> String {
        let mut text = String::from("[daemon]\n");
        let places = Places::below(home);
        push(&mut text, "socket", &places.socket);
        push(&mut text, "state_dir", &places.state_dir);
        push(&mut text, "log_dir", &places.log_dir);
        let _ = write!(text, "\n[shutdown]\n{}", self.shutdown);
        for (name, spec, claim) in &self.workers {
            let _ = write!(text, "\n[workers.{name}]\nport = {}\n", claim.port());
            push(&mut text, "repo", &home.join("repos").join(name));
            text.push_str(&spec.command_line(&self.tag));
            text.push_str(&spec.keys);
            // Most tests need the worker on the client port itself.
            if !spec.keys.contains("transport") {
                text.push_str("transport = \"direct\"\n");
            }
        }
        text.push('\n');
        text.push_str(&self.top);
        text
    }

    /// Writes the file and makes the repositories. Returns the file's path.
    #[track_caller]
    pub fn write(&self, home: &Path) -> PathBuf {
        for (name, spec, _) in &self.workers {
            let directory = home.join("repos").join(name);
            match spec.program {
                Program::BuiltIn if !directory.exists() => repo::init(&directory),
                _ => std::fs::create_dir_all(&directory).expect("the directory can be made"),
            }
        }
        let file = home.join("config.toml");
        std::fs::write(&file, self.to_toml(home)).expect("the configuration can be written");
        file
    }
}

impl WorkerSpec {
    fn command_line(&self, tag: &str) -> String {
        let fixture = |fixed: &[&str], flags: &[String]| -> Vec<String> {
            let program = binaries::fixture_worker().display().to_string();
            let fixed = fixed.iter().map(|word| (*word).to_owned());
            [program].into_iter().chain(fixed).chain(flags.iter().cloned()).collect()
        };
        let command = match &self.program {
            Program::BuiltIn => return String::new(),
            Program::Command(command) => command.clone(),
            Program::Fixture(flags) => fixture(&["--port", "{port}", "--tag", tag], flags),
            Program::Stdio(flags) => fixture(&["--stdio", "--tag", tag], flags),
        };
        let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        format!("command = [{}]\n", words.join(", "))
    }
}

/// The paths of a test's daemon.
#[derive(Clone, Debug)]
pub struct Places {
    /// The control socket.
    pub socket: PathBuf,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The directory of the logs.
    pub log_dir: PathBuf,
}

impl Places {
    /// The paths of a daemon with this home.
    pub fn below(home: &Path) -> Self {
        let state_dir = home.join("state");
        let log_dir = home.join("logs");
        Self { socket: home.join("run").join("control.sock"), state_dir, log_dir }
    }
}

fn push(text: &mut String, key: &str, path: &Path) {
    let _ = writeln!(text, "{key} = {}", quoted(&path.display().to_string()));
}

/// A TOML string. TOML has the escapes of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
