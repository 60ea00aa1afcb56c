//! `mcpctl man`: the manual pages. Tests generate them from the command lines and the schema of the configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mcpd_common::exit_code::program;
use serde::Serialize;

use crate::args::{Man, ManualPage};
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};

const SCHEMA: &str = "mcpd.man.v1";

struct Page {
    /// Below the directory of the manual.
    path: &'static str,
    text: &'static str,
}

const MCPCTL: Page = Page { path: "man1/mcpctl.1", text: include_str!("../../../docs/man/mcpctl.1") };
const CONFIGURATION: Page =
    Page { path: "man5/mcpd.toml.5", text: include_str!("../../../docs/man/mcpd.toml.5") };
const MCPD: Page = Page { path: "man8/mcpd.8", text: include_str!("../../../docs/man/mcpd.8") };

#[derive(Serialize)]
struct Written {
    files: Vec<PathBuf>,
}

pub fn run(context: &mut Context, args: Man) -> Result<u8, Failure> {
    match args.dir {
        Some(dir) => write_all(context, &dir)?,
        None => {
            let page = match args.page {
                ManualPage::Mcpctl => MCPCTL,
                ManualPage::Mcpd => MCPD,
                ManualPage::Configuration => CONFIGURATION,
            };
            context.out.raw(page.text.as_bytes());
        }
    }
    Ok(SUCCESS)
}

fn write_all(context: &mut Context, dir: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    for page in [MCPCTL, CONFIGURATION, MCPD] {
        let file = dir.join(page.path);
        write(&file, page.text).map_err(|error| {
            let tried = format!("write the manual page {}", file.display());
            Failure::new(failure_code(&error), tried, error, "name a directory that you may write: --dir DIR")
        })?;
        files.push(file);
    }
    if context.out.is_json() {
        context.out.json_with_schema(SCHEMA, &Written { files });
    } else {
        let lines: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
        context.out.raw(lines.as_bytes());
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(file, text)
}

fn failure_code(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::PermissionDenied => program::NOPERM,
        _ => program::USAGE,
    }
}
