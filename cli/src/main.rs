//! `mcpctl`: monitors and controls mcpd over its Unix socket.
//!
//! ```text
//! args.rs -> commands/<command>.rs -> daemon_client.rs (calls the daemon)
//!                                  -> locations.rs, leftovers.rs (what is known without a daemon)
//!                                  -> progress/, document.rs, table.rs, formatting.rs, color.rs -> output.rs (prints)
//! service/: mcpd as a service of systemd or launchd
//! failure.rs: failures and exit codes
//! ```

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use mcpd_common::exit_code::program;

mod args;
mod color;
mod commands;
mod context;
mod daemon_client;
mod document;
mod failure;
mod formatting;
mod leftovers;
mod locations;
mod output;
mod progress;
mod service;
mod table;
#[cfg(test)]
mod test_data;
mod wait;

fn main() -> ExitCode {
    // Rust exits with 101 after a panic. Here 101 means that the daemon died (R-EXIT-2).
    std::panic::catch_unwind(run).unwrap_or(program::SOFTWARE).into()
}

fn run() -> u8 {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error),
    };
    let mut context = context::Context::new(cli.global);
    // A command sends a few requests and exits, so one thread is enough.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let next = "free some file descriptors or memory, and try again";
            context.out.failure(&failure::Failure::new(program::SOFTWARE, "start", error, next));
            return program::SOFTWARE;
        }
    };
    match runtime.block_on(commands::run(&mut context, cli.command)) {
        Ok(code) => code,
        Err(failure) => {
            context.out.failure(&failure);
            failure.code
        }
    }
}

/// Prints help, version or a usage error, and returns the exit code. clap's own code for usage errors
/// is 2, which here means that a worker needed `SIGTERM`.
fn report_usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => failure::SUCCESS,
        _ => program::USAGE,
    }
}
