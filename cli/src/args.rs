//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use mcpd_common::ids::{Port, RunId, WorkerName};
use mcpd_common::paths;

use crate::output::Format;
use crate::paint::ColorChoice;

/// Watches and controls mcpd, and stops it so that nothing is left.
#[derive(Debug, Parser)]
#[command(name = "mcpctl", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command (R-CLI-1).
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The daemon's control socket [env: MCPD_SOCKET] [default: the user's, then the system's]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub socket: Option<PathBuf>,
    /// The daemon's configuration, to find its socket and, while it is not running, its ports and
    /// logs [env: MCPD_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Tables for people or JSON for programs
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub output: Format,
    /// The same as --output json
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Whether to use colours; auto honours NO_COLOR
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
}

impl Global {
    /// The same with what the environment says where the command line is silent; empty counts as unset.
    pub fn with_environment(mut self, env: paths::Environment) -> Self {
        let set = |key| env(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.socket = self.socket.or_else(|| set("MCPD_SOCKET"));
        self.config = self.config.or_else(|| set("MCPD_CONFIG"));
        self
    }

    /// Tables or JSON.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stop the daemon and everything it started
    ///
    /// With --wait it shows every phase, returns when the daemon is gone, looks from outside whether
    /// anything is left, and exits with the daemon's code: 0 clean, 1 clients forced, 2 SIGTERM needed,
    /// 3 SIGKILL needed, 4 port in use, 5 process left, 6 resource not closed, 100 and above internal error.
    Shutdown(Shutdown),
    /// Show the daemon, its workers and the last shutdown (3: not running)
    Status(Status),
    /// Show who holds each port and whether it can be bound (4: in use)
    #[command(visible_alias = "ports")]
    VerifyPorts(VerifyPorts),
    /// Show zombies below the daemon or on the machine (5: there are some)
    #[command(visible_alias = "zombies")]
    ListZombies(ListZombies),
    /// Show every client connection: its worker, process, session and requests
    Clients,
    /// Start workers that are stopped or failed
    Start(Workers),
    /// Stop workers and everything they started
    Stop(Workers),
    /// Stop and start workers, or the daemon itself; returns when they are ready again
    ///
    /// With --daemon all workers are stopped and verified as in a shutdown; then the daemon goes on as the
    /// program that is installed now, with the same pid. Clients notice a pause and keep their sessions.
    Restart(Restart),
    /// Show what workers, or the daemon, wrote
    Logs(Logs),
    /// Say in a word how things are (0 healthy, 1 degraded, 3 not running)
    Health,
    /// List past runs
    History(History),
    /// Show the full shutdown report of a run
    Report(Report),
    /// Print shell completions
    Completions(Completions),
}

/// `mcpctl shutdown`.
#[derive(Debug, Args)]
pub struct Shutdown {
    /// Show it phase by phase and return when the daemon is gone
    #[arg(long)]
    pub wait: bool,
    /// Why; stands in the report and in the logs
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Cut all waits short: straight to SIGKILL, still verified
    #[arg(long)]
    pub now: bool,
}

/// `mcpctl status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Only this worker, in detail
    pub worker: Option<WorkerName>,
    /// Refresh every second until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// `mcpctl verify-ports`.
#[derive(Debug, Args)]
pub struct VerifyPorts {
    /// Only this port; may be given several times
    #[arg(long = "port", short = 'p', value_name = "N")]
    pub ports: Vec<Port>,
}

/// `mcpctl list-zombies`.
#[derive(Debug, Args)]
pub struct ListZombies {
    /// On the whole machine
    #[arg(long)]
    pub all: bool,
}

/// `mcpctl start`, `stop`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Workers {
    /// These workers
    #[arg(value_name = "WORKER")]
    pub names: Vec<WorkerName>,
    /// All workers
    #[arg(long)]
    pub all: bool,
}

/// `mcpctl restart`.
#[derive(Debug, Args)]
pub struct Restart {
    /// What to restart.
    #[command(flatten)]
    pub what: Restarted,
    /// Why the daemon is restarted; stands in the report and in the logs
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["names", "all"])]
    pub reason: Option<String>,
}

/// What to restart.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Restarted {
    /// These workers
    #[arg(value_name = "WORKER")]
    pub names: Vec<WorkerName>,
    /// All workers
    #[arg(long)]
    pub all: bool,
    /// The daemon itself, with all workers; an upgraded mcpd is taken
    #[arg(long)]
    pub daemon: bool,
}

/// `mcpctl logs`.
#[derive(Debug, Args)]
pub struct Logs {
    /// These workers [default: all]
    #[arg(value_name = "WORKER")]
    pub workers: Vec<WorkerName>,
    /// The daemon's own log of its latest run
    #[arg(long, conflicts_with = "workers")]
    pub daemon: bool,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// How many lines of each
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    pub lines: usize,
}

/// `mcpctl history`.
#[derive(Debug, Args)]
pub struct History {
    /// How many runs
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    pub limit: u32,
}

/// `mcpctl report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The run, as `mcpctl history` shows it [default: the latest]
    pub run: Option<RunId>,
}

/// `mcpctl completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For this shell
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// R-CLI-1: every command takes the global options, before or after its name.
    #[test]
    fn global_options_stand_anywhere() {
        for line in ["mcpctl --json ports", "mcpctl verify-ports --output json --color never --socket /s"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.global.format(), Format::Json);
        }
    }

    #[test]
    fn start_wants_names_or_all() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parse("mcpctl start docs web") && parse("mcpctl restart --all"));
        assert!(
            parse("mcpctl restart --daemon --reason upgrade") && !parse("mcpctl restart docs --reason x")
        );
        assert!(!parse("mcpctl restart") && !parse("mcpctl restart --daemon docs"));
        assert!(!parse("mcpctl stop") && !parse("mcpctl stop --all docs") && !parse("mcpctl stop Docs"));
    }
}
