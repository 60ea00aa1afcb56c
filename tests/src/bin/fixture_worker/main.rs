//! A worker that misbehaves in the ways that its flags select, for tests and benchmarks.
//!
//! ```text
//! options    the command line
//! serve      HTTP, as far as probes and stop requests need it
//! mcp        an MCP server on the same port (--mcp)
//! reload     a leader whose child serves, and is replaced (--reloads)
//! stdio      an MCP server on standard input and output instead (--stdio)
//! exiting    the reaction to SIGTERM, and ways to exit
//! offspring  the processes that it starts and leaves behind
//! bomb       processes that keep forking
//! zoo        hostile workers: children that escape from their parent
//! relay      the process of a client, whose bytes the test writes and reads
//! report     what it inherited: environment, descriptors, limits, signals
//! raw        all unsafe code
//! ```
//!
//! It binds 127.0.0.1:$PORT and `[::1]`:$PORT, responds to `GET /health` with 200 and to `POST /shutdown` with 202, and then
//! exits with 0. It uses threads and no tokio, because a benchmark runs 500 of these programs. Its descendants have its
//! `--tag` in the command line, so that a test can find them from outside, and exit after [`options::LIFETIME`] in case a
//! test fails.

use std::process::ExitCode;

mod bomb;
mod exiting;
mod mcp;
mod offspring;
mod options;
mod raw;
mod relay;
mod reload;
mod report;
mod serve;
mod stdio;
mod zoo;

use options::{Options, Role};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => return fail(&problem),
    };
    match options.role {
        Role::Worker => worker(options),
        Role::Sleeper(on_sigterm) => offspring::sleeper(on_sigterm),
        Role::Escaper(on_sigterm) => offspring::escaper(&options, on_sigterm),
        Role::Tree { depth, width } => offspring::tree(&options, depth, width),
        Role::Heir { worker } => serve::heir(options, worker),
        Role::Relay { port } => {
            relay::run(port).unwrap_or_else(|error| fail(&format!("port {port}: {error}")))
        }
        Role::Exit => ExitCode::SUCCESS,
    }
}

fn worker(options: Options) -> ExitCode {
    if let Some(code) = options.exit_at_once {
        return ExitCode::from(code);
    }
    if let Some(file) = &options.lease {
        return hold_lease(file).unwrap_or_else(|error| fail(&format!("{file}: {error}")));
    }
    if options.print_env
        && let Err(problem) = report::write()
    {
        return fail(&problem);
    }
    if let Some(how) = options.reloads {
        return reload::lead(&options, how);
    }
    if options.leader_exits {
        exiting::set_up_sigterm(&options);
        return offspring::lead();
    }
    // In this order, because only a process with a single thread may fork, and its children must not inherit an ignored
    // SIGTERM.
    if let Err(error) = offspring::start(&options) {
        return fail(&format!("can't start the child processes: {error}"));
    }
    exiting::set_up_sigterm(&options);
    if options.flood {
        offspring::flood();
    }
    if options.stdio { stdio::run(options) } else { serve::run(options) }
}

/// Makes a file hang, as on a dead network mount, until this process is killed.
#[expect(clippy::print_stdout, reason = "the test waits for it")]
fn hold_lease(file: &str) -> std::io::Result<ExitCode> {
    let file = std::fs::File::open(file)?;
    raw::take_lease(&file)?;
    println!("held");
    std::thread::sleep(options::LIFETIME);
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stderr, reason = "a program for tests reports a wrong flag on standard error")]
fn fail(problem: &str) -> ExitCode {
    eprintln!("fixture_worker: {problem}");
    ExitCode::from(64)
}
