//! `mcpctl`: watches and controls mcpd over its Unix socket.
//!
//! ```text
//! args.rs -> commands/<verb>.rs -> client.rs (the daemon)  or  offline.rs, leftovers.rs (the machine)
//!                               -> progress/, doc.rs, table.rs, text.rs, paint.rs -> output.rs (prints)
//! exit.rs: failures and codes
//! ```

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use mcpd_common::exit_code::program;

mod args;
mod client;
mod commands;
mod context;
mod doc;
mod exit;
mod leftovers;
mod offline;
mod output;
mod paint;
mod progress;
#[cfg(test)]
mod samples;
mod table;
mod text;
mod wait;

fn main() -> ExitCode {
    // Rust's own code of a panic is 101, which means something else here (R-EXIT-2).
    std::panic::catch_unwind(run).unwrap_or(program::SOFTWARE).into()
}

fn run() -> u8 {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut context = context::Context::new(cli.global);
    // One thread: a command asks and shows, and is soon over.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let next = "free some descriptors or memory, and try again";
            context.out.failure(&exit::Failure::new(program::SOFTWARE, "begin", error, next));
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

/// Help and version are no errors; anything else is one of usage, and clap's own code for it is 2,
/// which means something else here.
fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => exit::SUCCESS,
        _ => program::USAGE,
    }
}
