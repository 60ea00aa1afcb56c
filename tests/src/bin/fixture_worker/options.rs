//! The command line.

use std::net::IpAddr;
use std::time::Duration;

use crate::mcp::Rudeness;
use crate::reload::Reload;
use crate::zoo::Hostile;

/// Time after which a descendant exits, in case a test fails.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// Time after which the worker exits; benchmarks take long.
pub const WORKER_LIFETIME: Duration = Duration::from_secs(1800);
/// A larger tree is rejected as a mistake.
const TREE_LIMIT: u32 = 500;
const BOMB_LIMIT: u32 = 3000;

/// The reaction to `SIGTERM` and `SIGHUP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSigterm {
    /// They end the process.
    Exit,
    /// They are ignored.
    Ignore,
}

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Is the worker.
    Worker,
    /// Sleeps.
    Sleeper(OnSigterm),
    /// Makes a session, starts a sleeper there with an empty environment, and exits.
    Escaper(OnSigterm),
    /// Sleeps, and has children.
    Tree {
        /// Generations below this one.
        depth: u32,
        /// Children of each process.
        width: u32,
    },
    /// Serves on the socket that is its standard input.
    Heir {
        /// The pid of the worker whose socket it has.
        worker: u32,
    },
    /// Is a client: passes bytes between its standard input and output and this port.
    Relay { port: u16 },
    /// Exits at once.
    Exit,
}

/// The reaction to `POST /shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// 202, then it exits.
    Exit,
    /// 404.
    NoRoute,
    /// No response; the connection stays open.
    NoResponse,
    /// This status, and it keeps running.
    Status(u16),
    /// 202, and it keeps running.
    Stay,
    /// 202; it exits once its connections are closed.
    WaitForClients,
    /// 202; its parent gets `SIGTERM`, and it keeps running.
    EndParent,
}

/// All options.
#[derive(Clone, Debug)]
pub struct Options {
    /// What this process does.
    pub role: Role,
    /// In the command line of all its descendants.
    pub tag: String,
    /// The port to listen on; `None`: it does not listen.
    pub port: Option<u16>,
    /// The reaction to `POST /shutdown`.
    pub on_shutdown: OnShutdown,
    /// Delay of the exit on request.
    pub slow_exit: Duration,
    /// `SIGTERM` is ignored.
    pub ignore_term: bool,
    /// `SIGTERM` ends it with this status.
    pub term_exit: Option<u8>,
    /// `SIGSTOP` to itself after the first connection.
    pub stop_self: bool,
    /// Exits at once with this status.
    pub exit_at_once: Option<u8>,
    /// Exits with status 1 after this time.
    pub crash_after: Option<Duration>,
    /// Writes to its output without end.
    pub flood: bool,
    /// Number of children that exit and are not reaped.
    pub zombies: u32,
    /// Depth and width of a tree of sleepers.
    pub tree: Option<(u32, u32)>,
    /// Number of sleepers in another session and group, without environment, that ignore `SIGTERM`.
    pub escape: u32,
    /// Number of such sleepers that `SIGTERM` ends.
    pub escape_polite: u32,
    /// A process in another session serves on the socket after the worker has exited.
    pub hand_over_socket: bool,
    /// Number of processes that keep forking.
    pub fork_bomb: u32,
    /// Where it listens instead of 127.0.0.1 and ::1.
    pub host: Option<IpAddr>,
    /// Delay before the port is bound.
    pub start_delay: Duration,
    /// `GET /big` responds with 16 MiB.
    pub big_answer: bool,
    /// `GET /health` responds with 503 after this time.
    pub unhealthy_after: Option<Duration>,
    /// The worker is a child of the leader, which may exit before it.
    pub leader_exits: bool,
    /// Writes the file of `report`.
    pub print_env: bool,
    /// It is an MCP server, too.
    pub mcp: bool,
    /// What it does as an MCP server to annoy a proxy.
    pub rude: Rudeness,
    /// It is a leader that starts the server as its child, again and again.
    pub reloads: Option<Reload>,
    /// It is such a child.
    pub reloaded: Option<Reload>,
    /// It speaks MCP on its standard input and output, and binds no port.
    pub stdio: bool,
    /// It is no worker, but delays every open of this file.
    pub lease: Option<String>,
    /// Hostile workers to start.
    pub zoo: Vec<Hostile>,
}

impl Options {
    fn new() -> Self {
        Self {
            role: Role::Worker,
            tag: "untagged".to_owned(),
            port: std::env::var("PORT").ok().and_then(|port| port.parse().ok()),
            on_shutdown: OnShutdown::Exit,
            slow_exit: Duration::ZERO,
            ignore_term: false,
            term_exit: None,
            stop_self: false,
            exit_at_once: None,
            crash_after: None,
            flood: false,
            zombies: 0,
            tree: None,
            escape: 0,
            escape_polite: 0,
            hand_over_socket: false,
            fork_bomb: 0,
            host: None,
            start_delay: Duration::ZERO,
            big_answer: false,
            unhealthy_after: None,
            leader_exits: false,
            print_env: false,
            mcp: false,
            rude: Rudeness::default(),
            reloads: None,
            reloaded: None,
            stdio: false,
            lease: None,
            zoo: vec![],
        }
    }

    /// Reads the command line.
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::new();
        let mut args = Args(args.peekable());
        while let Some(flag) = args.0.next() {
            options.take(&flag, &mut args).map_err(|problem| format!("{flag}: {problem}"))?;
        }
        options.check()?;
        Ok(options)
    }

    fn take(&mut self, flag: &str, args: &mut Args<impl Iterator<Item = String>>) -> Result<(), String> {
        match flag {
            "--tag" => self.tag = args.text()?,
            "--port" => self.port = Some(args.number()?),
            "--no-shutdown-route" => self.on_shutdown = OnShutdown::NoRoute,
            "--shutdown-never-answers" => self.on_shutdown = OnShutdown::NoResponse,
            "--shutdown-status" => self.on_shutdown = OnShutdown::Status(args.number()?),
            "--ignore-shutdown" => self.on_shutdown = OnShutdown::Stay,
            "--wait-for-clients" => self.on_shutdown = OnShutdown::WaitForClients,
            "--end-parent" => self.on_shutdown = OnShutdown::EndParent,
            "--slow-exit" => self.slow_exit = args.millis()?,
            "--ignore-term" => self.ignore_term = true,
            "--term-exit" => self.term_exit = Some(args.number()?),
            "--stop-self" => self.stop_self = true,
            "--exit-at-once" => self.exit_at_once = Some(args.number()?),
            "--crash-after" => self.crash_after = Some(args.millis()?),
            "--flood" => self.flood = true,
            "--zombies" => self.zombies = args.number()?,
            "--tree" => self.tree = Some((args.number()?, args.number()?)),
            "--escape" => self.escape = args.number()?,
            "--escape-polite" => self.escape_polite = args.number()?,
            "--hand-over-socket" => self.hand_over_socket = true,
            "--fork-bomb" => self.fork_bomb = args.number()?,
            "--host" => self.host = Some(args.number()?),
            "--start-delay" => self.start_delay = args.millis()?,
            "--never-ready" => self.port = None,
            "--big-answer" => self.big_answer = true,
            "--bind-other" => self.port = Some(args.number()?),
            "--unhealthy-after" => self.unhealthy_after = Some(args.millis()?),
            "--leader-exits" => self.leader_exits = true,
            "--print-env" => self.print_env = true,
            "--mcp" => self.mcp = true,
            "--token" => self.rude.token = Some(args.text()?),
            "--not-yet" => self.rude.not_yet = args.millis()?,
            "--unknown-session" => self.rude.unknown_session = args.number()?,
            "--one-stream" => self.rude.one_stream = Some(args.millis()?),
            "--one-session" => self.rude.one_session = true,
            "--no-delete" => self.rude.no_delete = true,
            "--host-list" => self.rude.host_list = Some(args.number()?),
            "--undeclared" => self.rude.undeclared = true,
            "--reloads" => self.reloads = Some(args.reload()?),
            "--reloaded" => self.reloaded = Some(args.reload()?),
            "--stdio" => self.stdio = true,
            "--lease" => self.lease = Some(args.text()?),
            "--zoo" => self.zoo.push(args.hostile()?),
            "--role" => self.role = args.role()?,
            _ => return Err("unknown".to_owned()),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let tree = match self.role {
            Role::Tree { depth, width } => Some((depth, width)),
            _ => self.tree,
        };
        let size = tree.map_or(0, |(depth, width)| {
            (1..=depth).fold(0u32, |sum, level| sum.saturating_add(width.saturating_pow(level)))
        });
        if size > TREE_LIMIT {
            return Err(format!("a tree of {size} processes; at most {TREE_LIMIT}"));
        }
        if self.fork_bomb > BOMB_LIMIT {
            return Err(format!("a fork bomb of more than {BOMB_LIMIT}"));
        }
        Ok(())
    }
}

struct Args<I: Iterator<Item = String>>(std::iter::Peekable<I>);

impl<I: Iterator<Item = String>> Args<I> {
    fn text(&mut self) -> Result<String, String> {
        self.0.next().ok_or_else(|| "needs a value".to_owned())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("\"{text}\" is not a valid number"))
    }

    fn millis(&mut self) -> Result<Duration, String> {
        self.number().map(Duration::from_millis)
    }

    fn hostile(&mut self) -> Result<Hostile, String> {
        let name = self.text()?;
        Hostile::named(&name).ok_or_else(|| format!("no hostile worker \"{name}\""))
    }

    fn reload(&mut self) -> Result<Reload, String> {
        let name = self.text()?;
        Reload::named(&name).ok_or_else(|| format!("no reload \"{name}\""))
    }

    fn role(&mut self) -> Result<Role, String> {
        match self.text()?.as_str() {
            "sleeper" => Ok(Role::Sleeper(OnSigterm::Exit)),
            "stubborn-sleeper" => Ok(Role::Sleeper(OnSigterm::Ignore)),
            "escaper" => Ok(Role::Escaper(OnSigterm::Exit)),
            "stubborn-escaper" => Ok(Role::Escaper(OnSigterm::Ignore)),
            "tree" => Ok(Role::Tree { depth: self.number()?, width: self.number()? }),
            "heir" => Ok(Role::Heir { worker: self.number()? }),
            "relay" => Ok(Role::Relay { port: self.number()? }),
            "exit" => Ok(Role::Exit),
            other => Err(format!("no role \"{other}\"")),
        }
    }
}
