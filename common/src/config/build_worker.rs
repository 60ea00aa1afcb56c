//! Builds one worker: merges the defaults, fills in placeholders, and notes what prevents its start.

use std::path::PathBuf;
use std::time::Duration;

use super::container;
use super::context::Context;
use super::file_system;
use super::lookup::Lookup;
use super::mistakes;
use super::placeholder::{self, PortText, Values};
use super::problem::{Found, Location};
use super::raw::{RawWorker, Shared};
use super::usable::{self, Obstacle};
use super::worker::{PortSource, Probe, Program, RestartPolicy, SessionsPolicy, Transport, WorkerConfig};
use super::worker_env::{Layer, WorkerEnv};
use crate::ids::{Port, WorkerName};
use crate::paths;

/// Default of `ready_within`.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Programs whose containers are listened for by a process that is not their child.
const CONTAINER_ENGINES: [&str; 4] = ["docker", "podman", "nerdctl", "finch"];
/// Default of `max_processes`.
pub(super) const MAX_PROCESSES: u16 = 8;
/// Default of `hold`.
pub(super) const HOLD_TIMEOUT: Duration = Duration::from_secs(30);

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
    let program = draft.program();
    let transport = draft.transport(&program);
    let env = draft.environment(transport);
    let stop_command = draft.stop_command();
    draft.look_up(&env, &program, stop_command.as_deref());
    let sessions = draft.sessions(transport, &program);
    let hint = draft.mistakes(port, transport, &program, &env);
    draft.warn_of_containers(transport, &program);
    let unusable = (!draft.obstacles.is_empty()).then(|| draft.obstacles.join("; "));
    let shutdown_path = own.shutdown_path.as_ref().or(defaults.shutdown_path.as_ref()).cloned();
    WorkerConfig {
        port,
        port_source,
        transport,
        ready: match transport {
            Transport::Stdio => Probe::Initialize,
            Transport::Http | Transport::Direct => {
                own.ready.clone().or(defaults.ready.clone()).unwrap_or_else(|| default_probe(&program))
            }
        },
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
        sessions,
        max_processes: own.max_processes.or(defaults.max_processes).unwrap_or(MAX_PROCESSES),
        host: own.host.or(defaults.host),
        allow_other_users: own.allow_other_users.or(defaults.allow_other_users).unwrap_or(false),
        allowed_hosts: own.allowed_hosts.iter().chain(&defaults.allowed_hosts).cloned().collect(),
        allowed_origins: own.allowed_origins.iter().chain(&defaults.allowed_origins).cloned().collect(),
        unusable,
        hint,
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

fn runs_container(program: &Program) -> bool {
    let Program::Command(command) = program else { return false };
    let words: Vec<_> = command.iter().map(ToString::to_string).collect();
    container::ContainerCommand::parse(&words).is_some()
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
    fn program(&self) -> Program {
        match self.written_command() {
            Some(written) => Program::Command(self.fill(written)),
            None => Program::BuiltIn,
        }
    }

    fn written_command(&self) -> Option<&Found<Vec<Found<String>>>> {
        self.own.command.as_ref().or(self.defaults.command.as_ref())
    }

    fn stop_command(&self) -> Option<Vec<PortText>> {
        self.written_stop_command().map(|written| self.fill(written))
    }

    fn written_stop_command(&self) -> Option<&Found<Vec<Found<String>>>> {
        self.own.stop_command.as_ref().or(self.defaults.stop_command.as_ref())
    }

    /// Reports what keeps the worker from being started.
    fn look_up(&mut self, env: &WorkerEnv, program: &Program, stop_command: Option<&[PortText]>) {
        let first = |command: &[PortText]| command[0].to_string();
        let lookup = Lookup {
            repo: self.named.repo.clone(),
            env: env.clone(),
            program: match program {
                Program::BuiltIn => None,
                Program::Command(command) => Some(first(command)),
            },
            stop_command: stop_command.map(first),
            search: (self.context.env)("PATH"),
        };
        let repo_at = self.named.repo_at;
        let Some(found) = file_system::within_limit(move || lookup.run()) else {
            let message = file_system::not_responding(&self.named.repo);
            let help = "correct the path, or mount it again";
            return self.add_obstacle(repo_at, Some(Obstacle { key: "repo", message, help: help.into() }));
        };
        let is_there = found.directory.is_none();
        self.add_obstacle(repo_at, found.directory);
        let env_file_at =
            self.own.env_file.as_ref().or(self.defaults.env_file.as_ref()).and_then(|file| file.at);
        self.add_obstacle(env_file_at, found.env_file);
        let program_at = self.written_command().map_or(repo_at, |written| written.at);
        match (program, self.context.git) {
            (Program::BuiltIn, Some(git)) if is_there => {
                let obstacle = usable::git_repository(&self.named.repo, Some(git));
                self.add_obstacle(program_at, obstacle);
            }
            (Program::BuiltIn, _) if !is_there => {}
            _ => self.add_obstacle(program_at, found.program),
        }
        // The worker can run without it: a problem is reported, but the worker stays usable.
        if let Some(written) = self.written_stop_command() {
            self.report(written.at, found.stop_command.as_ref());
        }
    }

    /// The variables, in this order of precedence (the last one counts): `env_file` of the defaults, `PORT`,
    /// `env` of the defaults, `env_file`, `env`. A `PORT` in an `env_file` was written for running the server
    /// without mcpd, so it is ignored; one in `env` was written for mcpd.
    fn environment(&self, transport: Transport) -> WorkerEnv {
        let mut env = WorkerEnv::default();
        if self.own.env_file.is_none() {
            self.defaults.env_file.iter().for_each(|file| env.push(self.env_file(file, false)));
        }
        // The port is mcpd's own if the server speaks stdio.
        if transport != Transport::Stdio {
            env.push(Layer::Written(vec![("PORT".to_owned(), self.values.fill("{port}"))]));
        }
        env.push(self.env_table(&self.defaults.env));
        self.own.env_file.iter().for_each(|file| env.push(self.env_file(file, true)));
        env.push(self.env_table(&self.own.env));
        env
    }

    fn env_table(&self, written: &[(String, Found<String>)]) -> Layer {
        let filled = written.iter().map(|(name, text)| (name.clone(), self.values.fill(&text.value)));
        Layer::Written(filled.collect())
    }

    fn env_file(&self, written: &Found<String>, ignores_port: bool) -> Layer {
        let path = paths::absolute(&written.value, self.context.base, self.context.env);
        Layer::File { path, ignores_port }
    }

    fn fill(&self, written: &Found<Vec<Found<String>>>) -> Vec<PortText> {
        let mut filled: Vec<_> = written.value.iter().map(|part| self.values.fill(&part.value)).collect();
        if let Some(first) = filled.first_mut() {
            let program = usable::program(&first.to_string(), &self.named.repo, self.context.env);
            *first = PortText::from(program.as_str());
        }
        filled
    }

    /// The transport, inferred if omitted (R-CONF-1): the built-in worker and a command with
    /// `{port}` speak HTTP.
    fn transport(&self, program: &Program) -> Transport {
        let written = self.own.transport.or(self.defaults.transport);
        match (program, written) {
            (Program::BuiltIn, Some(Transport::Stdio)) => {
                self.report_no_stdio();
                Transport::Http
            }
            (_, Some(written)) => written,
            (Program::Command(arguments), None) if !self.tells_port(arguments) => Transport::Stdio,
            (Program::Command(_) | Program::BuiltIn, None) => Transport::Http,
        }
    }

    fn report_no_stdio(&self) {
        if self.own.transport.is_some() {
            let message = "the built-in worker speaks HTTP".to_owned();
            let help = "omit transport, or write a command".into();
            self.report(self.named.repo_at, Some(&Obstacle { key: "transport", message, help }));
        }
    }

    /// Only a worker that speaks stdio is a process that sessions share or not. In `[defaults]` such a value is meant for
    /// these workers.
    fn sessions(&self, transport: Transport, program: &Program) -> SessionsPolicy {
        let written = self.own.sessions.or(self.defaults.sessions).unwrap_or(SessionsPolicy::Keep);
        let is_for_stdio = matches!(written, SessionsPolicy::Shared | SessionsPolicy::Own);
        let message = match transport {
            // The engine is asked for the containers of a worker, not of a session.
            Transport::Stdio if written == SessionsPolicy::Own && runs_container(program) => {
                "sessions \"own\" is not supported for a command that runs a container"
            }
            Transport::Stdio => return written,
            Transport::Http | Transport::Direct if !is_for_stdio => return written,
            Transport::Http | Transport::Direct => {
                "sessions \"shared\" and \"own\" are for workers that speak stdio"
            }
        };
        if self.own.sessions.is_some() {
            let help = "write \"keep\" or \"forget\", or omit it".into();
            let obstacle = Obstacle { key: "sessions", message: message.to_owned(), help };
            self.report(self.named.repo_at, Some(&obstacle));
        }
        SessionsPolicy::Keep
    }

    fn tells_port(&self, arguments: &[PortText]) -> bool {
        // An unknown placeholder is reported elsewhere, and is most likely a misspelt {port}.
        let in_command =
            arguments.iter().any(|argument| argument.has_port() || has_unknown_placeholder(argument));
        let mut variables = self.own.env.iter().chain(&self.defaults.env);
        in_command || variables.any(|(name, text)| name != "PORT" && self.values.fill(&text.value).has_port())
    }

    /// Reports what is probably not meant; the worker stays usable. Returns it for the reason of a start that fails.
    fn mistakes(
        &self,
        port: Port,
        transport: Transport,
        program: &Program,
        env: &WorkerEnv,
    ) -> Option<String> {
        let Program::Command(command) = program else { return None };
        let own_port = (transport == Transport::Http).then_some(port);
        let words: Vec<_> = command.iter().map(ToString::to_string).collect();
        let home = (self.context.env)("HOME");
        let in_command = mistakes::in_command(&words, own_port, home.as_deref());
        let variables = env
            .written()
            .filter_map(|(name, value)| mistakes::in_variable(name, &value.to_string(), own_port));
        let at = self.written_command().and_then(|written| written.at);
        let found: Vec<_> =
            in_command.into_iter().map(|it| ("command", it)).chain(variables.map(|it| ("env", it))).collect();
        for (key, mistake) in &found {
            let obstacle =
                Obstacle { key, message: mistake.message.clone(), help: mistake.help.clone().into() };
            self.report(at, Some(&obstacle));
        }
        let texts: Vec<_> = found.iter().map(|(_, it)| format!("{}; {}", it.message, it.help)).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    /// Warns where a container could escape (R-STDIO-6); the worker stays usable.
    fn warn_of_containers(&self, transport: Transport, program: &Program) {
        let Program::Command(command) = program else { return };
        let words: Vec<_> = command.iter().map(ToString::to_string).collect();
        let at = self.written_command().and_then(|written| written.at);
        let notes = self.context.notes;
        for mistake in container::warnings(&words, transport) {
            let (at, name) = (notes.locate(at), &self.named.name);
            notes.warning(format!("{at}: {name}: {}; {}", mistake.message, mistake.help));
        }
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
                Some(help.clone().into_owned()),
            );
        }
    }
}
