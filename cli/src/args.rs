//! The command line. The doc comments of options and commands are the help texts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use clap_complete::engine::ArgValueCandidates;
use mcpd_common::config;
use mcpd_common::ids::{Port, RunId, WorkerName};
use mcpd_common::paths;

use crate::color::ColorChoice;
use crate::completion;
use crate::output::Format;
use crate::service::unit_file::RestartWhen;

/// Monitor and control mcpd, the daemon that runs MCP servers
#[derive(Debug, Parser)]
#[command(name = "mcpctl", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

// Options of every command (R-CLI-1).
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Control socket of the daemon [env: MCPD_SOCKET] [default: the user's socket, the one in the run
    /// file, then the system's]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Global options")]
    pub socket: Option<PathBuf>,
    /// Configuration file of the daemon, read to find its socket and, if the daemon is not running, its
    /// ports and logs [env: MCPD_CONFIG]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Output format
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub output: Format,
    /// Same as --output json
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// When to use colours
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

/// The definition of the command line. The short help of a command lists its own options only; those of every command
/// are in `mcpctl -h` and in the long help.
pub fn command() -> clap::Command {
    let mut command = Cli::command();
    // Copies the global options to the subcommands.
    command.build();
    hide_global_options(command)
}

fn hide_global_options(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|subcommand| {
        let hide = |arg: clap::Arg| if arg.is_global_set() { arg.hide_short_help(true) } else { arg };
        hide_global_options(subcommand.mut_args(hide))
    })
}

/// # Errors
/// Also for a request for help or the version.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let mut matches = command.try_get_matches_from_mut(words)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Completes the names of workers.
fn worker_names() -> ArgValueCandidates {
    ArgValueCandidates::new(completion::workers)
}

impl Global {
    /// Fills options that the command line does not set from the environment. Empty variables count as unset.
    pub fn with_environment(mut self, env: paths::Environment) -> Self {
        let set = |key| env(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.socket = self.socket.or_else(|| set("MCPD_SOCKET"));
        self.config = self.config.or_else(|| set("MCPD_CONFIG"));
        self
    }

    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.output }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stop the daemon and everything it started
    ///
    /// With --wait, mcpctl shows every phase, waits until the daemon has exited, checks for itself that
    /// nothing is left, and exits with the daemon's exit code: 0 clean, 1 clients disconnected by force,
    /// 2 SIGTERM needed, 3 SIGKILL needed, 4 port still in use, 5 process left, 6 resource not closed,
    /// 100 or higher internal error.
    Shutdown(Shutdown),
    /// Show the daemon, its workers and the last shutdown (exit code 3: not running)
    Status(Status),
    /// Check whether each port can be bound, and list its holders (exit code 4: a port is in use)
    #[command(visible_alias = "ports")]
    VerifyPorts(VerifyPorts),
    /// List zombie processes below the daemon or on the whole machine (exit code 5: found some)
    #[command(visible_alias = "zombies")]
    ListZombies(ListZombies),
    /// List the client connections: worker, process, session and number of requests
    Clients,
    /// Start workers that are stopped or failed
    Start(Workers),
    /// Stop workers and everything they started
    Stop(Workers),
    /// Restart workers, or the daemon itself, and wait until they are ready
    ///
    /// With --daemon, all workers are stopped and verified as in a shutdown. Then the daemon executes the
    /// currently installed mcpd under the same pid. Clients notice a pause and keep their sessions.
    ///
    /// The exit code of --daemon is that of the stop if it is 4 or higher: something was left, such as a port in use or a
    /// process. Otherwise it is 65 if a worker is not ready, else 0. What the stop found is listed.
    Restart(Restart),
    /// Show the output of workers, or the log of the daemon
    Logs(Logs),
    /// Print the health in one line (exit code 0: healthy, 1: degraded or shutting down, 3: not running)
    Health(Health),
    /// List past runs
    History(History),
    /// Show the full shutdown report of a run
    Report(Report),
    /// Run mcpd as a service of systemd or launchd
    Service(Service),
    /// Print a completion script for a shell
    ///
    /// It completes commands, options and the names of workers. To load it in each new shell, add
    /// `source <(mcpctl completions bash)` to ~/.bashrc, `source <(mcpctl completions zsh)` to ~/.zshrc, or
    /// `mcpctl completions fish | source` to ~/.config/fish/config.fish.
    Completions(Completions),
    /// Print a manual page, or write all of them into a directory
    ///
    /// To read a page: mcpctl man mcpd | man -l -. To install all: mcpctl man --dir ~/.local/share/man
    Man(Man),
}

#[derive(Debug, Args)]
pub struct Shutdown {
    /// Show every phase, and return after the daemon has exited
    #[arg(long)]
    pub wait: bool,
    /// Reason for the shutdown, recorded in the report and in the logs
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Skip all waiting: send SIGKILL at once; the result is still verified
    #[arg(long)]
    pub now: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Show only this worker, in detail
    #[arg(add = worker_names())]
    pub worker: Option<WorkerName>,
    /// Refresh every second until interrupted with Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct VerifyPorts {
    /// Check only these ports
    #[arg(value_name = "N")]
    pub ports: Vec<Port>,
    /// Check only this port; can be given several times
    #[arg(long = "port", short = 'p', value_name = "N")]
    pub port: Vec<Port>,
}

#[derive(Debug, Args)]
pub struct ListZombies {
    /// List the zombies of the whole machine
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Workers {
    /// Names of workers
    #[arg(value_name = "WORKER", add = worker_names())]
    pub names: Vec<WorkerName>,
    /// All workers
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    pub target: RestartTarget,
    /// Reason for the restart of the daemon, recorded in the report and in the logs
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["names", "all"])]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RestartTarget {
    /// Names of workers
    #[arg(value_name = "WORKER", add = worker_names())]
    pub names: Vec<WorkerName>,
    /// All workers
    #[arg(long)]
    pub all: bool,
    /// The daemon itself and all workers; starts a newly installed version of mcpd
    #[arg(long)]
    pub daemon: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Workers whose logs to show [default: all]
    #[arg(value_name = "WORKER", add = worker_names())]
    pub workers: Vec<WorkerName>,
    /// Show the daemon's own log of its latest run
    #[arg(long, conflicts_with = "workers")]
    pub daemon: bool,
    /// Keep showing new lines until interrupted with Ctrl-C
    #[arg(long, short)]
    pub follow: bool,
    /// Number of last lines to show from each log
    #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
    pub lines: usize,
}

#[derive(Debug, Args)]
pub struct Health {
    /// Wait until mcpd runs and is healthy. The wait also ends at the time limit, and when failed workers are the only
    /// problem left, because mcpd does not start those again. Then the health is printed
    #[arg(long)]
    pub wait: bool,
    /// Time limit of --wait, such as 30s or 2m; at most 24h
    #[arg(long, value_name = "LIMIT", default_value = "60s", value_parser = time_limit, requires = "wait")]
    pub timeout: Duration,
}

fn time_limit(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).map_err(|error| format!("it {error}; write for example 30s or 2m"))
}

#[derive(Debug, Args)]
pub struct History {
    /// Number of runs to list
    #[arg(long, short = 'n', default_value_t = 20, value_name = "N")]
    pub limit: u32,
}

#[derive(Debug, Args)]
pub struct Report {
    /// Run id, as shown by `mcpctl history` [default: the latest run]
    pub run: Option<RunId>,
}

#[derive(Debug, Args)]
pub struct Service {
    #[command(subcommand)]
    pub command: ServiceCommand,
}

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Write the unit (or the property list), and start mcpd now and at each login or boot
    ///
    /// Every file and every command is shown before it is written or run. The PATH of the login shell is written into
    /// the unit, because a service does not read the files of a shell. A second installation changes nothing.
    Install(ServiceInstall),
    /// Stop mcpd, and remove what `install` wrote
    Uninstall(ServiceUninstall),
    /// Show the unit and its state (exit code 3: not active)
    Status(ServiceScope),
}

#[derive(Debug, Args)]
pub struct ServiceScope {
    /// A service of the system, started at boot, instead of one of this user
    #[arg(long)]
    pub system: bool,
    /// The service manager [default: that of this operating system]
    #[arg(long, value_enum, value_name = "NAME")]
    pub manager: Option<ServiceManagerChoice>,
    /// Files of the system are below this directory; for tests and images
    #[arg(long, value_name = "DIR", hide = true)]
    pub root: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ServiceManagerChoice {
    Systemd,
    Launchd,
}

#[derive(Debug, Args)]
pub struct ServiceChange {
    /// Show the files and commands, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also if the file was changed by hand
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct ServiceInstall {
    #[command(flatten)]
    pub scope: ServiceScope,
    #[command(flatten)]
    pub change: ServiceChange,
    /// When the service manager starts mcpd again
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub restart: RestartWhen,
    /// PATH of mcpd and its workers [default: that of the login shell]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// User that mcpd and its workers run as [default: the user who ran sudo, else root]
    #[arg(long, value_name = "USER", requires = "system")]
    pub run_as: Option<String>,
}

#[derive(Debug, Args)]
pub struct ServiceUninstall {
    #[command(flatten)]
    pub scope: ServiceScope,
    #[command(flatten)]
    pub change: ServiceChange,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// Shell to print the script for
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct Man {
    /// Page to print
    #[arg(value_enum, default_value_t, value_name = "PAGE")]
    pub page: ManualPage,
    /// Write all pages into the subdirectories man1, man5 and man8 of this directory
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    pub dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ManualPage {
    /// mcpctl(1), this program
    #[default]
    Mcpctl,
    /// mcpd(8), the daemon
    Mcpd,
    /// mcpd.toml(5), the configuration
    #[value(name = "mcpd.toml")]
    Configuration,
}

#[cfg(test)]
mod manual_page_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    /// R-CLI-1: every command takes the global options, before or after its name.
    #[test]
    fn global_options_are_accepted_before_and_after_the_command() {
        for line in ["mcpctl --json ports", "mcpctl verify-ports --output json --color never --socket /s"] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.global.format(), Format::Json);
        }
    }

    /// Options of every command take many lines, so only the long help of a command has them.
    #[test]
    fn the_short_help_of_a_command_has_its_own_options_only() {
        let help = |line: &str| parse(line.split(' ').map(OsString::from)).expect_err("help").to_string();
        for line in ["mcpctl status -h", "mcpctl service install -h"] {
            assert!(!help(line).contains("--socket"), "{}", help(line));
        }
        assert!(help("mcpctl status -h").contains("--watch"));
        for line in ["mcpctl -h", "mcpctl status --help"] {
            assert!(help(line).contains("--socket"), "{}", help(line));
        }
        let parsed = parse("mcpctl status --json --socket /s".split(' ').map(OsString::from)).expect("valid");
        assert_eq!((parsed.global.format(), parsed.global.socket), (Format::Json, Some(PathBuf::from("/s"))));
    }

    #[test]
    fn ports_may_be_named_with_or_without_the_option() {
        let line = "mcpctl verify-ports 8485 --port 8486 -p 8487 8488";
        let Command::VerifyPorts(VerifyPorts { ports, port }) =
            Cli::try_parse_from(line.split(' ')).expect(line).command
        else {
            panic!("{line}")
        };
        let numbers: Vec<_> = ports.iter().chain(&port).map(|port| port.get()).collect();
        assert_eq!(numbers, [8485, 8488, 8486, 8487]);
    }

    #[test]
    fn start_stop_and_restart_require_exactly_one_kind_of_target() {
        let is_valid = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        for line in ["start docs web", "restart --all", "restart --daemon --reason upgrade"] {
            assert!(is_valid(&format!("mcpctl {line}")), "{line}");
        }
        for line in [
            "stop",
            "stop --all docs",
            "stop Docs",
            "restart",
            "restart --daemon docs",
            "restart docs --reason x",
        ] {
            assert!(!is_valid(&format!("mcpctl {line}")), "{line}");
        }
    }
}
