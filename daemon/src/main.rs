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
mod handover;
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
use mcpd_common::exit_code::{Severity, own};
use mcpd_common::os::child;
use mcpd_common::os::handover::hold_stop_signals;

use args::{Args, Command};
use handover::Inheritance;

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
    // Before anything else is opened: descriptors are told by their numbers.
    let inheritance = Inheritance::receive();
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
    // Taken by `signals.rs`, on this thread.
    if let Err(error) = hold_stop_signals() {
        commands::complain(&format!("mcpd can't hold signals back: {error}\n"));
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
    let result = runtime.block_on(app::run(options, inheritance));
    runtime.shutdown_timeout(RUNTIME_END);
    match result {
        Ok(mut stopped) => match stopped.handover() {
            None => stopped.exit_code(),
            Some(handover) => {
                let error = handover.exec();
                commands::complain(&format!("mcpd can't go on as a new program: {error}; start it again\n"));
                Severity::Internal.code()
            }
        },
        Err(error) => {
            commands::complain(&format!("mcpd could not start: {error}\n"));
            error.exit_code()
        }
    }
}
