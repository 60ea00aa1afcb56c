//! `mcpctl completions`: a completion script for a shell.

use clap::CommandFactory;

use crate::args::{Cli, Completions};
use crate::context::Context;
use crate::failure::SUCCESS;

pub fn run(context: &mut Context, args: Completions) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mcpctl", &mut script);
    context.out.raw(&script);
    SUCCESS
}
