//! The processes that the worker starts and that outlive it.
//!
//! They inherit its standard output and error, so a reader of those pipes gets no end of file before they exit.

use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use nix::unistd::setsid;

use crate::exiting::small_thread;
use crate::options::{LIFETIME, OnSigterm, Options};
use crate::{bomb, raw};

/// Starts all processes that the options select and that do not need the socket.
pub fn start(options: &Options) -> io::Result<()> {
    for _ in 0..options.zombies {
        // Not reaped, so they become zombies.
        run(options, &["exit"])?;
    }
    if let Some((depth, width)) = options.tree {
        grow(options, depth, width)?;
    }
    escape(options, options.escape, "stubborn-escaper")?;
    escape(options, options.escape_polite, "escaper")?;
    options.zoo.iter().try_for_each(|hostile| hostile.start())?;
    bomb::start(options.fork_bomb)
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

/// A process of the tree: it starts its children and sleeps.
pub fn tree(options: &Options, depth: u32, width: u32) -> ExitCode {
    match grow(options, depth, width) {
        Ok(()) => sleeper(OnSigterm::Exit),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Sleeps until it is killed, at most for [`LIFETIME`].
pub fn sleeper(on_sigterm: OnSigterm) -> ExitCode {
    if on_sigterm == OnSigterm::Ignore {
        raw::ignore(Signal::SIGTERM);
        raw::ignore(Signal::SIGHUP);
    }
    thread::sleep(LIFETIME);
    ExitCode::SUCCESS
}

/// The middle process of a double fork: it makes a session, starts a sleeper with an empty environment
/// and exits.
pub fn escaper(options: &Options, on_sigterm: OnSigterm) -> ExitCode {
    let role = match on_sigterm {
        OnSigterm::Exit => "sleeper",
        OnSigterm::Ignore => "stubborn-sleeper",
    };
    let escaped = || {
        setsid()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--tag", &options.tag, "--role", role]).env_clear().spawn()
    };
    if escaped().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Starts a process in another session that serves on this socket once the worker has exited.
pub fn hand_over(options: &Options, listener: &TcpListener) -> io::Result<()> {
    let socket = OwnedFd::from(listener.try_clone()?);
    let mut command = Command::new(std::env::current_exe()?);
    let me = std::process::id().to_string();
    command.args(["--tag", &options.tag, "--role", "heir", &me]).stdin(Stdio::from(socket)).spawn()?;
    Ok(())
}

/// A leader that starts the actual worker and, like `npx`, may exit before it.
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

/// Writes to standard output and error without end.
pub fn flood() {
    small_thread(|| write_forever(io::stdout().lock()));
    small_thread(|| write_forever(io::stderr().lock()));
}

fn write_forever(mut pipe: impl Write) {
    let lines = "this worker writes to its output without end or pause\n".repeat(160);
    while pipe.write_all(lines.as_bytes()).is_ok() {}
}
