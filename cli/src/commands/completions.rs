//! `mcpctl completions`: a completion script for a shell.

use mcpd_common::exit_code::program;

use crate::args::Completions;
use crate::completion;
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};

pub fn run(context: &mut Context, args: &Completions) -> Result<u8, Failure> {
    let shell = args.shell.to_string();
    let script = completion::script(&shell).map_err(|error| {
        let next = "see `mcpctl completions --help` for the shells that there is one for";
        Failure::new(program::SOFTWARE, format!("print the script for {shell}"), error, next)
    })?;
    context.out.raw(&script);
    Ok(SUCCESS)
}
