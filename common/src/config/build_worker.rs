//! Builds one worker: merges the defaults, fills in placeholders, and notes what prevents its start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::context::Context;
use super::env_file;
use super::placeholder::{self, PortText, Values};
use super::problem::{Found, Location};
use super::raw::{RawWorker, Shared};
use super::usable::{self, Obstacle};
use super::worker::{PortSource, Probe, Program, RestartPolicy, SessionsPolicy, Transport, WorkerConfig};
use crate::ids::{Port, WorkerName};
use crate::paths;

/// Default of `ready_within`.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Programs whose containers are listened for by a process that is not their child.
const CONTAINER_ENGINES: [&str; 4] = ["docker", "podman", "nerdctl", "finch"];
/// Default of `hold`.
const HOLD_TIMEOUT: Duration = Duration::from_secs(30);

/// A worker with its name and repository, but without a port.
pub(super) struct Named {
    pub name: WorkerName,
    pub at: Location,
    pub repo: PathBuf,
    pub repo_at: Location,
    pub raw: RawWorker,
}

/// Builds the worker; omitted keys get their value from `[defaults]`, else the built-in default.
pub(super) fn complete(
    named: Named,
    (port, port_source): (Port, PortSource),
    defaults: &Shared,
    context: &Context,
) -> WorkerConfig {
    let shown_repo = named.repo.to_string_lossy().into_owned();
    let own = &named.raw.shared;
    let values = Values { repo: &shown_repo, name: named.name.as_str() };
    let mut draft = Draft { named: &named, own, defaults, values, context, obstacles: Vec::new() };
    draft.add_obstacle(named.repo_at, usable::directory(&named.repo));
    let env = draft.environment();
    let search = env.get("PATH").map(ToString::to_string).or_else(|| (context.env)("PATH"));
    let program = draft.program(search.as_deref());
    let stop_command = draft.stop_command(search.as_deref());
    let transport = draft.transport(&program, &env);
    let unusable = (!draft.obstacles.is_empty()).then(|| draft.obstacles.join("; "));
    let shutdown_path = own.shutdown_path.as_ref().or(defaults.shutdown_path.as_ref()).cloned();
    WorkerConfig {
        port,
        port_source,
        transport,
        ready: own
            .ready
            .as_ref()
            .or(defaults.ready.as_ref())
            .cloned()
            .unwrap_or_else(|| default_probe(&program)),
        env,
        shutdown_path: shutdown_path.unwrap_or_else(|| Some("/shutdown".to_owned())),
        stop_command,
        restart: own.restart.or(defaults.restart).unwrap_or(RestartPolicy::Always),
        restart_unhealthy: own.restart_unhealthy.or(defaults.restart_unhealthy).unwrap_or(false),
        ready_within: own.ready_within.or(defaults.ready_within).unwrap_or(READY_TIMEOUT),
        trust_listener: own
            .trust_listener
            .or(defaults.trust_listener)
            .unwrap_or_else(|| is_container_engine(&program)),
        hold: own.hold.or(defaults.hold).unwrap_or(HOLD_TIMEOUT),
        sessions: own.sessions.or(defaults.sessions).unwrap_or(SessionsPolicy::Keep),
        allow_other_users: own.allow_other_users.or(defaults.allow_other_users).unwrap_or(false),
        allowed_hosts: own.allowed_hosts.iter().chain(&defaults.allowed_hosts).cloned().collect(),
        allowed_origins: own.allowed_origins.iter().chain(&defaults.allowed_origins).cloned().collect(),
        unusable,
        program,
        name: named.name,
        repo: named.repo,
    }
}

fn has_unknown_placeholder(text: &PortText) -> bool {
    !placeholder::unknown(&text.to_string()).is_empty()
}

fn is_container_engine(program: &Program) -> bool {
    let Program::Command(command) = program else { return false };
    let name = PathBuf::from(command[0].to_string());
    name.file_name().is_some_and(|name| CONTAINER_ENGINES.iter().any(|engine| name == *engine))
}

fn default_probe(program: &Program) -> Probe {
    match program {
        Program::BuiltIn => Probe::Http("/health".to_owned()),
        Program::Command(_) => Probe::Tcp,
    }
}

/// A worker that is being built, and the reasons why it can't be started.
struct Draft<'a> {
    named: &'a Named,
    own: &'a Shared,
    defaults: &'a Shared,
    values: Values<'a>,
    context: &'a Context<'a>,
    obstacles: Vec<String>,
}

impl Draft<'_> {
    fn program(&mut self, search: Option<&str>) -> Program {
        let Some(written) = self.own.command.as_ref().or(self.defaults.command.as_ref()) else {
            let missing = usable::directory(&self.named.repo).is_some();
            let obstacle =
                (!missing).then(|| usable::git_repository(&self.named.repo, self.context.git)).flatten();
            self.add_obstacle(self.named.repo_at, obstacle);
            return Program::BuiltIn;
        };
        let command = self.fill(written);
        self.add_obstacle(written.at, usable::command("command", &command[0].to_string(), search));
        Program::Command(command)
    }

    fn stop_command(&self, search: Option<&str>) -> Option<Vec<PortText>> {
        let written = self.own.stop_command.as_ref().or(self.defaults.stop_command.as_ref())?;
        let command = self.fill(written);
        // The worker can run without it: a problem is reported, but the worker stays usable.
        self.report(written.at, usable::command("stop_command", &command[0].to_string(), search).as_ref());
        Some(command)
    }

    /// The variables, in this order of precedence (the last one counts): `env_file` of the defaults, `PORT`,
    /// `env` of the defaults, `env_file`, `env`. A `PORT` in an `env_file` was written for running the server
    /// without mcpd, so it is ignored; one in `env` was written for mcpd.
    fn environment(&mut self) -> BTreeMap<String, PortText> {
        let mut env = BTreeMap::new();
        if self.own.env_file.is_none() {
            env.extend(self.env_file(self.defaults.env_file.as_ref()));
        }
        env.insert("PORT".to_owned(), self.values.fill("{port}"));
        env.extend(self.env_table(&self.defaults.env));
        let mut file = self.env_file(self.own.env_file.as_ref());
        file.retain(|(name, _)| name != "PORT");
        env.extend(file);
        env.extend(self.env_table(&self.own.env));
        env
    }

    fn env_table(&self, written: &[(String, Found<String>)]) -> Vec<(String, PortText)> {
        written.iter().map(|(name, text)| (name.clone(), self.values.fill(&text.value))).collect()
    }

    fn env_file(&mut self, written: Option<&Found<String>>) -> Vec<(String, PortText)> {
        let Some(written) = written else { return Vec::new() };
        let path = paths::absolute(&written.value, self.context.base, self.context.env);
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        let variables = read.and_then(|text| env_file::parse(&text)).unwrap_or_else(|why| {
            let message = format!("can't use env_file {}: {why}", path.display());
            let help =
                "correct the file, or its path (relative paths start at the configuration's directory)";
            self.add_obstacle(written.at, Some(Obstacle { key: "env_file", message, help }));
            Vec::new()
        });
        variables.into_iter().map(|(name, value)| (name, PortText::from(value.as_str()))).collect()
    }

    fn fill(&self, written: &Found<Vec<Found<String>>>) -> Vec<PortText> {
        let mut filled: Vec<_> = written.value.iter().map(|part| self.values.fill(&part.value)).collect();
        if let Some(first) = filled.first_mut() {
            let program = usable::program(&first.to_string(), &self.named.repo, self.context.env);
            *first = PortText::from(program.as_str());
        }
        filled
    }

    /// The transport, inferred if omitted (R-CONF-1): the built-in worker and a command that contains
    /// `{port}` speak HTTP.
    fn transport(&self, program: &Program, env: &BTreeMap<String, PortText>) -> Transport {
        let written = self.own.transport.as_ref().or(self.defaults.transport.as_ref());
        if let Some(written) = written {
            return *written;
        }
        if let Program::Command(arguments) = program {
            let port_in_env = env.iter().any(|(name, value)| name != "PORT" && value.has_port());
            // An unknown placeholder is reported elsewhere, and is most likely a misspelt {port}.
            let port_in_command =
                arguments.iter().any(|argument| argument.has_port() || has_unknown_placeholder(argument));
            if !port_in_env && !port_in_command {
                self.refuse_stdio();
            }
        }
        Transport::Http
    }

    fn refuse_stdio(&self) {
        let name = &self.named.name;
        let message = format!(
            "{name}: command has no {{port}}, so its server would speak MCP on standard input and output, \
             which this version does not support yet"
        );
        let help = "if the server listens on a port, write {port} into command or env; \
                    if it reads the variable PORT, write transport = \"http\"";
        self.context.notes.error(
            self.named.repo_at,
            &format!("workers.{name}.transport"),
            message,
            Some(help.to_owned()),
        );
    }

    /// Reports the obstacle, and makes the worker unusable.
    fn add_obstacle(&mut self, at: Location, obstacle: Option<Obstacle>) {
        self.report(at, obstacle.as_ref());
        self.obstacles.extend(obstacle.map(|obstacle| obstacle.message));
    }

    fn report(&self, at: Location, obstacle: Option<&Obstacle>) {
        if let Some(Obstacle { key, message, help }) = obstacle {
            let name = &self.named.name;
            let message = format!("{name}: {message}");
            self.context.notes.worker(
                at,
                &format!("workers.{name}.{key}"),
                message,
                Some((*help).to_owned()),
            );
        }
    }
}
