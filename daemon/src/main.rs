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
mod verify;
mod warnings;
mod worker_listener;

use std::process::ExitCode;

use clap::Parser;
use mcpd_common::exit_code::{ServiceOutcome, program, service_outcome};

use args::{Args, Command};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed terminal is no reason to fail.
            let _ = error.print();
            let is_launchd = std::env::args_os().any(|arg| arg == "--launchd");
            return if error.use_stderr() { code_for(is_launchd, program::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let code = match args.command {
        Some(Command::Init { dirs }) => commands::init::run(&dirs),
        Some(Command::CheckConfig { file }) => commands::check_config::run(file.or(args.run.config)),
        Some(Command::Worker { repo, port }) => commands::worker::run(repo, port),
        None => {
            let is_launchd = args.run.launchd;
            return code_for(is_launchd, start::run(args.run));
        }
    };
    code.into()
}

/// For launchd every code but 0 is a reason to start mcpd again.
fn code_for(is_launchd: bool, code: u8) -> ExitCode {
    let is_crash = service_outcome(code) == ServiceOutcome::Restart;
    if is_launchd && !is_crash { ExitCode::SUCCESS } else { code.into() }
}
