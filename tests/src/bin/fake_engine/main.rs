//! A stand-in for a container engine, for machines on which no real one runs.
//!
//! ```text
//!   fake_engine --serve STORE      the engine: starts "containers", keeps their labels, waits for them
//!   docker run ..., docker ps ...  this program under another name: a client, which talks to $FAKE_ENGINE/socket
//! ```
//!
//! It does what mcpd relies on as docker and podman do it: a container is a child of the engine, not of its client, and
//! survives the client; `run` refuses an existing cidfile, passes on SIGTERM, and exits with the status of the container;
//! `--rm` removes it afterwards; `stop` sends SIGTERM, and SIGKILL later. A "container" is a plain process on this machine.
//! The file `STORE/mode` makes it misbehave: `deaf` ends nothing, `silent` never answers.

use std::path::PathBuf;
use std::process::ExitCode;

mod client;
mod protocol;
mod run_options;
mod server;
mod store;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match &args[..] {
        [serve, store] if serve == "--serve" => server::serve(PathBuf::from(store)),
        _ => client::run(args),
    };
    result.unwrap_or_else(|error| fail(&error.to_string()))
}

#[expect(clippy::print_stderr, reason = "engines print errors on standard error")]
fn fail(problem: &str) -> ExitCode {
    eprintln!("fake_engine: {problem}");
    ExitCode::from(125)
}
