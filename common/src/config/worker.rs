//! One worker: defaults merged under it, placeholders filled in, and what stands in its way.

use std::collections::BTreeMap;

use super::build::Context;
use super::placeholder::Values;
use super::problem::{Found, Place};
use super::raw::Shared;
use super::usable::{self, Obstacle};
use super::workers::Named;
use super::{PortSource, Probe, Program, RestartPolicy, Transport, WorkerConfig, env_file};
use crate::ids::Port;
use crate::paths;

/// The worker with everything that was left out.
pub(super) fn complete(
    named: Named,
    (port, port_source): (Port, PortSource),
    defaults: &Shared,
    context: &Context,
) -> WorkerConfig {
    let shown_repo = named.repo.to_string_lossy().into_owned();
    let own = &named.raw.shared;
    let values = Values { port: port.to_string(), repo: &shown_repo, name: named.name.as_str() };
    let mut draft = Draft { named: &named, own, defaults, values, context, obstacles: Vec::new() };
    draft.note(named.repo_at, usable::directory(&named.repo));
    let env = draft.environment();
    let search = env.get("PATH").cloned().or_else(|| (context.env)("PATH"));
    let program = draft.program(search.as_deref());
    let stop_command = draft.stop_command(search.as_deref());
    let unusable = (!draft.obstacles.is_empty()).then(|| draft.obstacles.join("; "));
    let shutdown_path = own.shutdown_path.as_ref().or(defaults.shutdown_path.as_ref()).cloned();
    WorkerConfig {
        port,
        port_source,
        transport: own.transport.or(defaults.transport).unwrap_or(Transport::Direct),
        ready: own
            .ready
            .as_ref()
            .or(defaults.ready.as_ref())
            .cloned()
            .unwrap_or_else(|| usual_probe(&program)),
        program,
        env,
        shutdown_path: shutdown_path.unwrap_or_else(|| Some("/shutdown".to_owned())),
        stop_command,
        restart: own.restart.or(defaults.restart).unwrap_or(RestartPolicy::Always),
        restart_unhealthy: own.restart_unhealthy.or(defaults.restart_unhealthy).unwrap_or(false),
        unusable,
        name: named.name,
        repo: named.repo,
    }
}

fn usual_probe(program: &Program) -> Probe {
    match program {
        Program::BuiltIn => Probe::Http("/health".to_owned()),
        Program::Command(_) => Probe::Tcp,
    }
}

/// A worker that is being completed, and why it can't be used.
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
            let obstacle = usable::git_repository(&self.named.repo).filter(|_| !missing);
            self.note(self.named.repo_at, obstacle);
            return Program::BuiltIn;
        };
        let command = self.fill(written);
        self.note(written.at, usable::command("command", &command[0], search));
        Program::Command(command)
    }

    fn stop_command(&self, search: Option<&str>) -> Option<Vec<String>> {
        let written = self.own.stop_command.as_ref().or(self.defaults.stop_command.as_ref())?;
        let command = self.fill(written);
        // Without it the worker can run all the same: it is told, and not held against the worker.
        self.tell(written.at, usable::command("stop_command", &command[0], search).as_ref());
        Some(command)
    }

    /// In this order, the later one wins: `env_file`, `PORT`, `env`, first those of the defaults.
    /// A `PORT` in an `env_file` was meant for a life without mcpd; one in `env` is a wish.
    fn environment(&mut self) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        if self.own.env_file.is_none() {
            env.extend(self.env_file(self.defaults.env_file.as_ref()));
        }
        env.insert("PORT".to_owned(), self.values.port.clone());
        env.extend(self.env_table(&self.defaults.env));
        let mut file = self.env_file(self.own.env_file.as_ref());
        file.retain(|(name, _)| name != "PORT");
        env.extend(file);
        env.extend(self.env_table(&self.own.env));
        env
    }

    fn env_table(&self, written: &[(String, Found<String>)]) -> Vec<(String, String)> {
        written.iter().map(|(name, text)| (name.clone(), self.values.fill(&text.value))).collect()
    }

    fn env_file(&mut self, written: Option<&Found<String>>) -> Vec<(String, String)> {
        let Some(written) = written else { return Vec::new() };
        let path = paths::absolute(&written.value, self.context.base, self.context.env);
        let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
        read.and_then(|text| env_file::parse(&text)).unwrap_or_else(|why| {
            let message = format!("env_file {}: {why}", path.display());
            let help = "correct the file or its path, which is relative to the configuration";
            self.note(written.at, Some(Obstacle { key: "env_file", message, help }));
            Vec::new()
        })
    }

    fn fill(&self, written: &Found<Vec<Found<String>>>) -> Vec<String> {
        let mut filled: Vec<_> = written.value.iter().map(|part| self.values.fill(&part.value)).collect();
        if let Some(first) = filled.first_mut() {
            *first = usable::program(first, &self.named.repo, self.context.env);
        }
        filled
    }

    /// Tells it, and makes the worker unusable.
    fn note(&mut self, at: Place, obstacle: Option<Obstacle>) {
        self.tell(at, obstacle.as_ref());
        self.obstacles.extend(obstacle.map(|obstacle| obstacle.message));
    }

    fn tell(&self, at: Place, obstacle: Option<&Obstacle>) {
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
