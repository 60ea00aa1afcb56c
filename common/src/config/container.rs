//! Commands that run a container engine: which engine, where `run` is, which of its options matter. Pure.
//!
//! A container is no descendant of mcpd, so mcpd has to find it by labels and to end it through its engine
//! (R-STDIO-6).

use std::path::Path;

use super::worker::{Program, WorkerConfig};

mod options;
mod warnings;

use options::{Words, is_true};
pub(super) use warnings::warnings;

/// The engines whose `run` mcpd understands.
const ENGINES: [&str; 2] = ["docker", "podman"];

/// The label with the id of the run that started a container.
pub const RUN_LABEL: &str = "mcpd.run";
/// The label with the name of the worker that a container belongs to.
pub const WORKER_LABEL: &str = "mcpd.worker";

/// A command like `docker --context x run --rm IMAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerCommand {
    /// The engine with its global options, to which another subcommand can be added: `docker --context x`.
    pub engine: Vec<String>,
    /// Whether the engine removes the container when it exits (`--rm`).
    pub auto_remove: bool,
    /// The `--cidfile` that is written in the command.
    pub cidfile: Option<String>,
    /// The number of words up to and including `run`.
    words_before_options: usize,
    options: Options,
}

/// Options of `run` that decide whether a container can escape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    detach: bool,
    interactive: bool,
    tty: bool,
    auto_remove: bool,
    restart: Option<String>,
    cidfile: Option<String>,
}

/// What a command does with a container engine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum EngineUse {
    /// It does not begin with an engine.
    None,
    Run(ContainerCommand),
    /// Another subcommand, such as `exec` or `compose`; empty without one.
    Other(String),
}

impl WorkerConfig {
    /// The worker's command, if it runs a container.
    pub fn container(&self) -> Option<ContainerCommand> {
        let Program::Command(words) = &self.program else { return None };
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        ContainerCommand::parse(&words)
    }
}

impl ContainerCommand {
    /// `None` if the command runs no container of a known engine.
    pub fn parse(words: &[String]) -> Option<Self> {
        match engine_use(words) {
            EngineUse::Run(command) => Some(command),
            EngineUse::None | EngineUse::Other(_) => None,
        }
    }

    /// Where further options of `run` can be added to the arguments, the words without the program.
    pub fn options_index(&self) -> usize {
        self.words_before_options - 1
    }

    /// The name of the engine, for messages.
    pub fn engine_name(&self) -> &str {
        file_name(&self.engine[0])
    }
}

fn engine_use(command: &[String]) -> EngineUse {
    let Some(engine) = command.first().map(|program| file_name(program)) else { return EngineUse::None };
    if !ENGINES.contains(&engine) {
        return EngineUse::None;
    }
    let mut words = Words::after_program(command);
    words.skip_global_options(engine);
    let globals = words.position();
    let mut subcommand = words.next().unwrap_or_default();
    if subcommand == "container" {
        subcommand = words.next().unwrap_or_default();
    }
    if subcommand != "run" {
        return EngineUse::Other(subcommand.to_owned());
    }
    let words_before_options = words.position();
    let options = run_options(&mut words);
    EngineUse::Run(ContainerCommand {
        engine: command[..globals].to_vec(),
        auto_remove: options.auto_remove,
        cidfile: options.cidfile.clone(),
        words_before_options,
        options,
    })
}

fn run_options(words: &mut Words<'_>) -> Options {
    let mut options = Options::default();
    while let Some((name, value)) = words.next_run_option() {
        let is_on = is_true(value);
        match name {
            "d" | "detach" => options.detach = is_on,
            "i" | "interactive" => options.interactive = is_on,
            "t" | "tty" => options.tty = is_on,
            "rm" => options.auto_remove = is_on,
            "restart" => options.restart = value.map(str::to_owned),
            "cidfile" => options.cidfile = value.map(str::to_owned),
            _ => {}
        }
    }
    options
}

fn file_name(word: &str) -> &str {
    Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or(word)
}

#[cfg(test)]
mod tests;
