//! `mcpd`: runs MCP servers, one worker per repository, and stops them so that nothing is left.
//!
//! `start.rs` makes guardian and daemon of one process, `app.rs` is the daemon's life, `shutdown/mod.rs` its end.

mod app;
mod args;
mod banner;
mod boot;
mod client_ports;
mod commands;
mod condition;
mod control;
mod deadline;
mod descriptors;
mod fault;
mod guardian;
mod handover;
mod host_check;
mod instance;
mod journal;
mod last_output;
mod listening_sockets;
mod logging;
mod port_holder;
mod process;
mod progress;
mod proxy;
mod random;
mod recovery;
mod repo_worker;
mod resources;
mod service_manager;
mod service_status;
mod shutdown;
mod signals;
mod slots;
mod socket_file;
mod start;
mod supervisor;
mod verify;
mod warnings;
mod worker_listener;

use std::process::ExitCode;

use clap::Parser;
use mcpd_common::exit_code::{self, RestartWhen, program};

use args::{Args, Command};
use commands::init::Destination;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed terminal is no reason to fail.
            let _ = error.print();
            // No start with these arguments can succeed, whatever else they say.
            let is_launchd = std::env::args_os().any(|arg| arg.to_string_lossy().starts_with("--launchd"));
            let launchd = is_launchd.then(RestartWhen::default);
            return if error.use_stderr() { code_for(launchd, program::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let code = match args.command {
        Some(Command::Init { write, config, dirs }) => {
            let destination = if write { Destination::File(config) } else { Destination::StandardOutput };
            commands::init::run(&dirs, destination)
        }
        Some(Command::CheckConfig { file }) => commands::check_config::run(file.or(args.run.config)),
        Some(Command::Schema) => commands::schema::run(),
        Some(Command::Completions { shell }) => commands::completions::run(shell),
        Some(Command::Worker { repo, port }) => commands::worker::run(repo, port),
        None => {
            let launchd = args.run.launchd.map(RestartWhen::from);
            return code_for(launchd, start::run(args.run));
        }
    };
    code.into()
}

fn code_for(launchd: Option<RestartWhen>, code: u8) -> ExitCode {
    launchd.map_or(code, |restart| exit_code::for_launchd(code, restart)).into()
}
