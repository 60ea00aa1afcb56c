//! A worker that misbehaves as its flags say, for tests and benchmarks.
//!
//! ```text
//! options    the command line: what to do wrong
//! serve      HTTP, as little of it as probes and requests to exit need
//! mcp        an MCP server on the same port, if that is asked for
//! exiting    what a request to exit, or SIGTERM, leads to
//! offspring  the processes that it starts and leaves behind
//! bomb       the one that keeps forking
//! zoo        hostile workers: children that evade their parent
//! report     what it was given: environment, descriptors, limits, signals
//! raw        the only unsafe code
//! ```
//!
//! It binds 127.0.0.1:$PORT and `[::1]`:$PORT, answers `GET /health` with 200 and
//! `POST /shutdown` with 202, and then exits 0. Plain `std`, since a benchmark runs 500 of
//! them. Whatever it starts carries its `--tag` in the command line, so that a test can find
//! it from outside, and exits on its own after [`options::LIFETIME`] should a test go wrong.

use std::process::ExitCode;

mod bomb;
mod exiting;
mod mcp;
mod offspring;
mod options;
mod raw;
mod report;
mod serve;
mod zoo;

use options::{Options, Role};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => return complain(&problem),
    };
    match options.role {
        Role::Worker => worker(options),
        Role::Sleeper(manners) => offspring::sleeper(manners),
        Role::Escaper(manners) => offspring::escaper(&options, manners),
        Role::Tree { depth, width } => offspring::tree(&options, depth, width),
        Role::Heir { worker } => serve::heir(options, worker),
        Role::Exit => ExitCode::SUCCESS,
    }
}

fn worker(options: Options) -> ExitCode {
    if let Some(code) = options.exit_at_once {
        return ExitCode::from(code);
    }
    if options.print_env
        && let Err(problem) = report::write()
    {
        return complain(&problem);
    }
    if options.leader_exits {
        exiting::arrange_signals(&options);
        return offspring::lead();
    }
    // In this order: only a process of one thread may fork, and what it starts must not
    // inherit an ignored SIGTERM.
    if let Err(error) = offspring::start(&options) {
        return complain(&format!("can't start what was asked for: {error}"));
    }
    exiting::arrange_signals(&options);
    if options.flood {
        offspring::flood();
    }
    serve::run(options)
}

#[expect(clippy::print_stderr, reason = "a program for tests reports a wrong flag on standard error")]
fn complain(problem: &str) -> ExitCode {
    eprintln!("fixture_worker: {problem}");
    ExitCode::from(64)
}
