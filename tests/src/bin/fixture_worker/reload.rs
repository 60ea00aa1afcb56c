//! A leader that starts the server as its child, again and again: a reload in place (`--reloads HOW`).
//!
//! ```text
//! exit     GET /reload ends the child at once                              (tsx watch)
//! drain    it closes its socket, and ends when its connections are closed  (nodemon with server.close)
//! inherit  the same; the socket is the leader's, the child inherits it     (uvicorn --reload)
//! ```

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use crate::options::Options;

/// The child exits with this status to be started again.
pub const AGAIN: u8 = 77;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    Exit,
    Drain,
    Inherit,
}

impl Reload {
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "exit" => Some(Self::Exit),
            "drain" => Some(Self::Drain),
            "inherit" => Some(Self::Inherit),
            _ => None,
        }
    }
}

/// The leader: starts the server until it ends with another status.
pub fn lead(options: &Options, how: Reload) -> ExitCode {
    let code = || -> io::Result<Option<i32>> {
        let port = options.port.unwrap_or_default();
        let socket = (how == Reload::Inherit)
            .then(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(OwnedFd::from))
            .transpose()?;
        loop {
            let args = std::env::args()
                .skip(1)
                .map(|arg| if arg == "--reloads" { "--reloaded".into() } else { arg });
            let mut command = Command::new(std::env::current_exe()?);
            if let Some(socket) = &socket {
                command.stdin(Stdio::from(socket.try_clone()?));
            }
            let status = command.args(args).status()?;
            if status.code() != Some(i32::from(AGAIN)) {
                return Ok(status.code());
            }
        }
    };
    let code = code().ok().flatten().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The socket that the child inherits.
pub fn inherited() -> io::Result<TcpListener> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Only this copy stays open, so that closing it closes the socket in this process.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
