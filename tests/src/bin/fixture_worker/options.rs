//! The command line.

use std::net::IpAddr;
use std::time::Duration;

use crate::zoo::Hostile;

/// The longest that a descendant lives.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// The longest that the worker itself lives; benchmarks take long.
pub const WORKER_LIFETIME: Duration = Duration::from_secs(1800);
/// A tree of more processes is a typing error.
const TREE_LIMIT: u32 = 500;
const BOMB_LIMIT: u32 = 3000;

/// How a process takes `SIGTERM` and `SIGHUP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// It dies of them.
    Polite,
    /// It ignores them.
    Stubborn,
}

/// Which of the processes this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The worker.
    Worker,
    /// Waits for its end.
    Sleeper(Manners),
    /// Goes into a new session, starts a sleeper there with an empty environment, and ends.
    Escaper(Manners),
    /// A sleeper with children.
    Tree {
        /// Generations below this one.
        depth: u32,
        /// Children of each.
        width: u32,
    },
    /// Serves on the socket that is its standard input.
    Heir {
        /// The pid of the worker that it inherits from.
        worker: u32,
    },
    /// Ends at once.
    Exit,
}

/// What `POST /shutdown` leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// 202, then it exits.
    Exit,
    /// 404.
    NoRoute,
    /// Nothing; the connection stays open.
    NoAnswer,
    /// This status, and it keeps running.
    Status(u16),
    /// 202, and it keeps running.
    Stay,
    /// 202; it exits when its connections are closed.
    WaitForClients,
    /// 202; its parent gets `SIGTERM`, and it keeps running.
    EndParent,
}

/// Everything that can be asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which process this is.
    pub role: Role,
    /// Carried by everything it starts.
    pub tag: String,
    /// Where it listens; `None`: nowhere.
    pub port: Option<u16>,
    /// What `POST /shutdown` leads to.
    pub on_shutdown: OnShutdown,
    /// How long it takes to exit.
    pub slow_exit: Duration,
    /// `SIGTERM` does nothing.
    pub ignore_term: bool,
    /// `SIGTERM` ends it with this status.
    pub term_exit: Option<u8>,
    /// `SIGSTOP` to itself after the first connection.
    pub stop_self: bool,
    /// Ends at once with this status.
    pub exit_at_once: Option<u8>,
    /// Ends with status 1 after this time.
    pub crash_after: Option<Duration>,
    /// Writes without end.
    pub flood: bool,
    /// Children that end and are not waited for.
    pub zombies: u32,
    /// A tree of sleepers below it.
    pub tree: Option<(u32, u32)>,
    /// Sleepers in another session and group, without environment, that ignore `SIGTERM`.
    pub escape: u32,
    /// The same, but `SIGTERM` ends them.
    pub escape_polite: u32,
    /// A process in another session goes on serving.
    pub hand_over_socket: bool,
    /// Processes that keep forking.
    pub fork_bomb: u32,
    /// Where it listens instead of 127.0.0.1 and ::1.
    pub host: Option<IpAddr>,
    /// Binds after this time.
    pub start_delay: Duration,
    /// `GET /big` writes 16 MiB.
    pub big_answer: bool,
    /// Health is 503 after this time.
    pub unhealthy_after: Option<Duration>,
    /// The worker is a child of the leader, which exits before it.
    pub leader_exits: bool,
    /// Writes the file that `report` describes.
    pub print_env: bool,
    /// Is an MCP server, too.
    pub mcp: bool,
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
            "--shutdown-never-answers" => self.on_shutdown = OnShutdown::NoAnswer,
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
        self.0.next().ok_or_else(|| "wants a value".to_owned())
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("\"{text}\" is no number that fits"))
    }

    fn millis(&mut self) -> Result<Duration, String> {
        self.number().map(Duration::from_millis)
    }

    fn hostile(&mut self) -> Result<Hostile, String> {
        let name = self.text()?;
        Hostile::named(&name).ok_or_else(|| format!("no hostile worker \"{name}\""))
    }

    fn role(&mut self) -> Result<Role, String> {
        match self.text()?.as_str() {
            "sleeper" => Ok(Role::Sleeper(Manners::Polite)),
            "stubborn-sleeper" => Ok(Role::Sleeper(Manners::Stubborn)),
            "escaper" => Ok(Role::Escaper(Manners::Polite)),
            "stubborn-escaper" => Ok(Role::Escaper(Manners::Stubborn)),
            "tree" => Ok(Role::Tree { depth: self.number()?, width: self.number()? }),
            "heir" => Ok(Role::Heir { worker: self.number()? }),
            "exit" => Ok(Role::Exit),
            other => Err(format!("no role \"{other}\"")),
        }
    }
}
