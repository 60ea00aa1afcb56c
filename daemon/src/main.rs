//! `mcpd`: runs MCP servers, one worker per repository, and stops them so that nothing is left.
//!
//! Arguments, the runtime, the exit code. The daemon's life is in `app.rs`, its end in
//! `shutdown/mod.rs`.

mod app;
mod args;
mod banner;
mod boot;
mod clients;
mod commands;
mod control;
mod deadline;
mod fault;
mod instance;
mod journal;
mod logging;
mod random;
mod reclaim;
mod repo_worker;
mod resources;
mod shutdown;
mod signals;
mod verify;
mod workers;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mcpd_common::exit_code::own;
use mcpd_common::os::child;

use args::{Args, Command};

/// What a runtime may take to end its own threads, when all is done.
const RUNTIME_END: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed terminal is no reason to fail.
            let _ = error.print();
            return if error.use_stderr() { own::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let code = match args.command {
        Some(Command::Init { dirs }) => commands::init::run(&dirs),
        Some(Command::CheckConfig { file }) => commands::check_config::run(file.or(args.run.config)),
        Some(Command::Worker { repo, port }) => commands::worker::run(repo, port),
        None => run(args.run),
    };
    code.into()
}

fn run(args: args::Run) -> u8 {
    let options = match commands::run::options(args) {
        Ok(options) => options,
        Err(complaint) => {
            commands::complain(&complaint);
            return own::CONFIG;
        }
    };
    // Before any thread or child exists: whatever workers leave behind becomes our child.
    if let Err(error) = child::become_subreaper() {
        commands::complain(&format!("mcpd can't become a subreaper: {error}\n"));
        return own::SOFTWARE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mcpd")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            commands::complain(&format!("mcpd can't start its threads: {error}\n"));
            return own::SOFTWARE;
        }
    };
    let result = runtime.block_on(app::run(options));
    runtime.shutdown_timeout(RUNTIME_END);
    match result {
        Ok(stopped) => stopped.exit_code(),
        Err(error) => {
            commands::complain(&format!("mcpd could not start: {error}\n"));
            error.exit_code()
        }
    }
}
