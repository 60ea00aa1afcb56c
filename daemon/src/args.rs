//! The arguments of `mcpd`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use mcpd_common::exit_code::RestartWhen;
use mcpd_common::ids::{Port, WorkerName};

use crate::logging::ConsoleFormat;

/// Runs MCP servers, one worker per repository, each on its own loopback port, and stops them so
/// that nothing is left.
///
/// With neither a configuration nor --repo, inside a git repository, it serves that repository.
#[derive(Debug, Parser)]
#[command(name = "mcpd", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: Run,
}

/// How to run.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// The configuration file [default: $MCPD_CONFIG, then the platform's configuration directory]
    #[arg(long, value_name = "FILE", conflicts_with = "repo")]
    pub config: Option<PathBuf>,
    /// Serve this repository with the built-in worker, without any file; may be repeated
    #[arg(long, value_name = "DIR")]
    pub repo: Vec<PathBuf>,
    /// Serve this command as a server that speaks MCP on its standard input and output, under this name
    #[arg(long, value_name = "NAME", requires = "server")]
    pub stdio: Option<WorkerName>,
    /// Serve one MCP server without any file: mcpd -- npx -y @modelcontextprotocol/server-everything. With {port} in it
    /// the server has to listen there, otherwise it speaks on its standard input and output
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["config", "repo"])]
    pub server: Vec<String>,
    /// Do not start when a single worker is unusable
    #[arg(long)]
    pub strict: bool,
    /// Exit with 0 if launchd is to leave mcpd stopped: it starts a job again after every other code. Without WHEN,
    /// only a crash is a reason to start again. The code of the shutdown is in its report
    #[arg(
        long,
        value_name = "WHEN",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "on-failure"
    )]
    pub launchd: Option<LaunchdRestart>,
    /// Format of the console output [default: journal if standard error is the journal of systemd, else human]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub log_format: Option<ConsoleFormat>,
}

/// After which exits launchd starts mcpd again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LaunchdRestart {
    /// After a crash
    OnFailure,
    /// After every exit, except that a start can't succeed
    Always,
}

impl From<LaunchdRestart> for RestartWhen {
    fn from(restart: LaunchdRestart) -> Self {
        match restart {
            LaunchdRestart::OnFailure => Self::OnFailure,
            LaunchdRestart::Always => Self::Always,
        }
    }
}

/// What to do instead of running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a configuration for these repositories, or write it
    Init {
        /// Write it to the file that a start reads ($MCPD_CONFIG, else in the platform's configuration directory),
        /// unless that file exists
        #[arg(long)]
        write: bool,
        /// Write it to this file instead
        #[arg(long, value_name = "FILE", requires = "write")]
        config: Option<PathBuf>,
        /// The repositories
        #[arg(required = true, value_name = "DIR")]
        dirs: Vec<PathBuf>,
    },
    /// Validate a configuration; show what was inferred and every problem with its line
    CheckConfig {
        /// The file [default: the one that a start would use]
        file: Option<PathBuf>,
    },
    /// Print a JSON schema of the configuration, with which editors complete and check it
    ///
    /// Save it beside the configuration (mcpd schema > ~/.config/mcpd/schema.json), and begin the configuration with
    /// the line "#:schema ./schema.json".
    Schema,
    /// Print a completion script for a shell
    ///
    /// To load it in each new shell, add `source <(mcpd completions bash)` to ~/.bashrc, or the same with zsh to ~/.zshrc. That
    /// of mcpctl is printed by `mcpctl completions`.
    Completions {
        /// Shell to print the script for
        shell: Shell,
    },
    /// The built-in worker: serve one repository over MCP, read-only
    Worker {
        /// The repository
        #[arg(long, value_name = "DIR")]
        repo: PathBuf,
        /// The port on 127.0.0.1 and ::1
        #[arg(long)]
        port: Port,
    },
}

#[cfg(test)]
mod manual_page_tests;
