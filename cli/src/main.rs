//! `mcpctl`: monitors and controls mcpd over its Unix socket.
//!
//! ```text
//! args.rs -> commands/<command>.rs -> daemon_client.rs (calls the daemon)
//!                                  -> locations.rs, leftovers.rs (what is known without a daemon)
//!                                  -> progress/, document.rs, table.rs, formatting.rs, color.rs -> output.rs (prints)
//! service/: mcpd as a service of systemd or launchd
//! completion.rs: candidates for the completion of a shell
//! failure.rs: failures and exit codes
//! ```

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use mcpd_common::exit_code::program;

use color::ColorChoice;
use output::Format;

mod args;
mod color;
mod commands;
mod completion;
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
    match completion::run() {
        Ok(false) => {}
        Ok(true) => return failure::SUCCESS,
        Err(error) => return report_usage(&error, false),
    }
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return report_usage(&error, wants_json(std::env::args_os())),
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
fn report_usage(error: &clap::Error, json: bool) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return failure::SUCCESS;
    }
    if json {
        output::Output::new(Format::Json, ColorChoice::Never).failure(&usage_failure(error));
    } else {
        let _ = error.print();
    }
    program::USAGE
}

/// The same as other failures in JSON, without the lines that are about the usage.
fn usage_failure(error: &clap::Error) -> failure::Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let is_about_usage = |line: &&str| line.starts_with("Usage:") || line.starts_with("For more information");
    // Paragraphs of a message and its tips. Lines of one paragraph are a list.
    let message: Vec<_> = text.lines().take_while(|line| !is_about_usage(line)).map(str::trim).collect();
    let paragraphs = message.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    let happened: Vec<_> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    let next = "see `mcpctl --help`, or `mcpctl COMMAND --help`";
    failure::Failure::new(program::USAGE, "read the command line", happened.join("; "), next)
}

/// Whether arguments that can't be parsed ask for JSON.
fn wants_json(args: impl Iterator<Item = OsString>) -> bool {
    let args: Vec<_> = args.take_while(|arg| arg != "--").collect();
    let is_output = |pair: &[OsString]| pair[0] == "--output" && pair[1] == "json";
    args.iter().any(|arg| arg == "--json" || arg == "--output=json") || args.windows(2).any(is_output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognized_in_invalid_arguments() {
        let is_json = |line: &str| wants_json(line.split(' ').map(OsString::from));
        for line in ["mcpctl restart --json", "mcpctl --output json bogus", "mcpctl bogus --output=json"] {
            assert!(is_json(line), "{line}");
        }
        for line in ["mcpctl restart", "mcpctl --output table bogus", "mcpctl stop -- --json"] {
            assert!(!is_json(line), "{line}");
        }
    }

    #[test]
    fn a_usage_error_is_one_sentence() {
        let happened = |line: &str| {
            let error = args::parse(line.split(' ').map(OsString::from)).expect_err("invalid");
            usage_failure(&error).happened
        };
        insta::assert_snapshot!(happened("mcpctl restart"), @"the following required arguments were not provided: <WORKER|--all|--daemon>");
        insta::assert_snapshot!(happened("mcpctl statsu"), @"unrecognized subcommand 'statsu'; tip: some similar subcommands exist: 'start', 'status'");
        insta::assert_snapshot!(happened("mcpctl health --wait --timeout x"), @"invalid value 'x' for '--timeout <LIMIT>': it is not a duration; write for example 30s or 2m");
    }
}
