//! The processes that the worker starts and that outlive it.
//!
//! They inherit its standard output and error: a program that waits for the end of those pipes waits
//! for them.

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::exiting::small_thread;
use crate::options::{LIFETIME, Manners, Options};
use crate::{bomb, raw};

/// Starts everything that was asked for and does not need the socket.
pub fn start(options: &Options) -> io::Result<()> {
    for _ in 0..options.zombies {
        // Never reaped: they are to be zombies.
        run(options, &["exit"])?;
    }
    if let Some((depth, width)) = options.tree {
        grow(options, depth, width)?;
    }
    escape(options, options.escape, "stubborn-escaper")?;
    escape(options, options.escape_polite, "escaper")?;
    options.zoo.iter().try_for_each(|hostile| hostile.release())?;
    bomb::light(options.fork_bomb)
}

fn run(options: &Options, role: &[&str]) -> io::Result<Child> {
    Command::new(std::env::current_exe()?).args(["--tag", &options.tag, "--role"]).args(role).spawn()
}

fn escape(options: &Options, count: u32, role: &str) -> io::Result<()> {
    for _ in 0..count {
        run(options, &[role])?.wait()?;
    }
    Ok(())
}

fn grow(options: &Options, depth: u32, width: u32) -> io::Result<()> {
    if depth == 0 {
        return Ok(());
    }
    let below = (depth - 1).to_string();
    for _ in 0..width {
        run(options, &["tree", &below, &width.to_string()])?;
    }
    Ok(())
}

/// A process of the tree: its own children, then sleep.
pub fn tree(options: &Options, depth: u32, width: u32) -> ExitCode {
    match grow(options, depth, width) {
        Ok(()) => sleeper(Manners::Polite),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Sleeps until it is ended, or its time is up.
pub fn sleeper(manners: Manners) -> ExitCode {
    if manners == Manners::Stubborn {
        raw::ignore(Signal::SIGTERM);
        raw::ignore(Signal::SIGHUP);
    }
    thread::sleep(LIFETIME);
    ExitCode::SUCCESS
}

/// The middle process of a double fork: it makes a session, starts a sleeper with an empty environment
/// and exits.
pub fn escaper(options: &Options, manners: Manners) -> ExitCode {
    let role = match manners {
        Manners::Polite => "sleeper",
        Manners::Stubborn => "stubborn-sleeper",
    };
    let escaped = || {
        setsid()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--tag", &options.tag, "--role", role]).env_clear().spawn()
    };
    if escaped().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Starts a process in another session that serves on this socket when the worker is gone.
pub fn hand_over(options: &Options, listener: &TcpListener) -> io::Result<()> {
    let socket = OwnedFd::from(listener.try_clone()?);
    let mut command = Command::new(std::env::current_exe()?);
    let me = std::process::id().to_string();
    command.args(["--tag", &options.tag, "--role", "heir", &me]).stdin(Stdio::from(socket)).spawn()?;
    Ok(())
}

/// A leader that starts the actual worker and, like `npx`, exits before it.
pub fn lead() -> ExitCode {
    let worker = || -> io::Result<Child> {
        let kept = std::env::args().skip(1).filter(|flag| flag != "--leader-exits");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(kept).arg("--end-parent").spawn()
    };
    let status = worker().and_then(|mut worker| worker.wait());
    let code = status.ok().and_then(|status| status.code());
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Writes to standard output and error as fast as they take it.
pub fn flood() {
    small_thread(|| pour(io::stdout().lock()));
    small_thread(|| pour(io::stderr().lock()));
}

fn pour(mut pipe: impl Write) {
    let lines = "this worker talks a great deal and means none of it\n".repeat(160);
    while pipe.write_all(lines.as_bytes()).is_ok() {}
}
