//! `mcpd`: runs MCP servers, one worker per repository, and stops them so that nothing is left.
//!
//! `start.rs` makes guardian and daemon of one process, `app.rs` is the daemon's life, `shutdown/mod.rs` its end.

mod app;
mod args;
mod banner;
mod boot;
mod client_ports;
mod commands;
mod control;
mod deadline;
mod descriptors;
mod fault;
mod guardian;
mod handover;
mod host_check;
mod instance;
mod journal;
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
mod time_limits;
mod verify;
mod warnings;
mod worker_listener;

use std::process::ExitCode;

use clap::Parser;
use mcpd_common::exit_code::program;

use args::{Args, Command};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed terminal is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { program::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let code = match args.command {
        Some(Command::Init { dirs }) => commands::init::run(&dirs),
        Some(Command::CheckConfig { file }) => commands::check_config::run(file.or(args.run.config)),
        Some(Command::Worker { repo, port }) => commands::worker::run(repo, port),
        None => start::run(args.run),
    };
    code.into()
}
