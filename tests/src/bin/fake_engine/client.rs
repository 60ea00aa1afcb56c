//! The client: `docker run ...`, `docker ps ...`.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

use crate::protocol::{receive, send};
use crate::run_options::RunOptions;

/// Runs one command.
pub fn run(args: Vec<String>) -> io::Result<ExitCode> {
    let args = without_globals(args);
    match args.split_first() {
        Some((command, rest)) if command == "run" => run_container(&args, rest),
        _ => {
            let answer = ask(&json!({ "args": args }))?;
            io::stdout().write_all(answer["text"].as_str().unwrap_or_default().as_bytes())?;
            Ok(code(&answer))
        }
    }
}

/// Of the global options only `--context NAME` is known.
fn without_globals(mut args: Vec<String>) -> Vec<String> {
    if args.first().is_some_and(|first| first == "--context") {
        args.drain(..2);
    }
    args
}

fn connect() -> io::Result<UnixStream> {
    let store = std::env::var_os("FAKE_ENGINE").map(PathBuf::from).unwrap_or_default();
    UnixStream::connect(store.join("socket"))
        .map_err(|error| io::Error::other(format!("cannot connect to the engine: {error}; is it running?")))
}

fn ask(request: &Value) -> io::Result<Value> {
    let stream = connect()?;
    send(&stream, request)?;
    receive(&stream)
}

fn code(answer: &Value) -> ExitCode {
    let code = answer["code"].as_u64().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(125))
}

fn run_container(args: &[String], rest: &[String]) -> io::Result<ExitCode> {
    let Some(options) = RunOptions::parse(rest) else { return Err(io::Error::other("unknown option")) };
    if let Some(file) = options.cidfile.as_ref().filter(|file| PathBuf::from(file).exists()) {
        return Err(io::Error::other(format!("container ID file found, remove {file}")));
    }
    // Before any thread exists, so that only the thread that waits for it gets the signal.
    let signals = SigSet::from_iter([Signal::SIGTERM]);
    signals.thread_block()?;
    let stream = connect()?;
    send(&stream, &json!({ "args": args }))?;
    let answer = receive(&stream)?;
    let Some(id) = answer["id"].as_str().map(str::to_owned) else { return Ok(code(&answer)) };
    if let Some(file) = &options.cidfile {
        std::fs::write(file, &id)?;
    }
    if options.detach {
        return Ok(ExitCode::SUCCESS);
    }
    pass_on_signals(signals, id.clone());
    if options.interactive {
        copy_input(stream.try_clone()?);
    }
    io::copy(&mut &stream, &mut io::stdout())?;
    Ok(code(&ask(&json!({ "args": ["wait", id] }))?))
}

fn pass_on_signals(signals: SigSet, id: String) {
    thread::spawn(move || {
        while signals.wait().is_ok() {
            // The container may have exited.
            let _ = ask(&json!({ "args": ["kill", "--signal", "TERM", id] }));
        }
    });
}

fn copy_input(stream: UnixStream) {
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut &stream);
        let _ = stream.shutdown(Shutdown::Write);
    });
}
