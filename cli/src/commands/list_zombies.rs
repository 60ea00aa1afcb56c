//! `mcpctl list-zombies`: zombies below the daemon or on the whole machine. Works without a daemon.

use mcpd_common::check::zombies::{self, Scope, Zombie, ZombieReport};
use mcpd_common::exit_code::Severity;
use mcpd_common::ids::Pid;
use mcpd_common::os::CannotLook;
use mcpd_common::run_file::RunFile;
use mcpd_proto::v1;

use crate::args::ListZombies;
use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::{DaemonClient, SCAN_TIMEOUT, bad_reply};
use crate::document::Document;
use crate::failure::{Failure, SUCCESS};
use crate::formatting::count;
use crate::leftovers::{self, marked_processes, worker_name};
use crate::locations::Locations;
use crate::table::{Column, Table, cell, maybe};

const ACTION: &str = "list the zombies";

pub async fn run(context: &mut Context, args: ListZombies) -> Result<u8, Failure> {
    let report = match context.connect(ACTION).await? {
        Some(mut daemon) => ask_daemon(&mut daemon, args.all).await?,
        None if args.all => zombies::find(Scope::Machine, &|_| None).map_err(cannot_look)?,
        None => zombies_of_last_run(&context.locations()).map_err(cannot_look)?,
    };
    if context.out.is_json() {
        context.out.json(&report);
    } else {
        let mut doc = context.out.document();
        render(&mut doc, &report, args.all);
        context.out.print(doc);
    }
    Ok(if report.zombies.is_empty() { SUCCESS } else { Severity::ProcessLeft.code() })
}

async fn ask_daemon(daemon: &mut DaemonClient, all: bool) -> Result<ZombieReport, Failure> {
    let wait = daemon.wait_for(ACTION, "the list of zombies", SCAN_TIMEOUT);
    let message = wait.reply(daemon.control.list_zombies(v1::ListZombiesRequest { all })).await?;
    message.try_into().map_err(|error| bad_reply(ACTION, error))
}

/// Without a daemon there is no process tree below it. Instead, processes with the mark of its last run count.
fn zombies_of_last_run(locations: &Locations) -> Result<ZombieReport, CannotLook> {
    let run = RunFile::read(&locations.state.run_file()).ok().flatten();
    let marked = run.as_ref().map(|run| marked_processes(run.run.tag())).transpose()?.unwrap_or_default();
    let worker_of = |pid: Pid| worker_name(run.as_ref()?, *marked.get(&pid)?);
    let mut report = zombies::find(Scope::Machine, &worker_of)?;
    report.zombies.retain(|zombie| marked.contains_key(&zombie.pid));
    Ok(report)
}

fn cannot_look(error: CannotLook) -> Failure {
    leftovers::cannot_look(ACTION, error)
}

fn render(doc: &mut Document, report: &ZombieReport, all: bool) {
    let place = if all { "on this machine" } else { "below mcpd" };
    if report.zombies.is_empty() {
        let checked = count(report.examined as usize, "process");
        return doc.sentence(&format!("No zombies {place} ({checked} checked)"), Tone::Good);
    }
    let mut table = Table::new([
        Column::new("PID").right(),
        Column::new("NAME").cut(8),
        Column::new("WORKER").cut(8).optional(2),
        Column::new("PARENT").fold(24),
        Column::new("TRACED BY").optional(1),
    ]);
    for zombie in &report.zombies {
        let Zombie { pid, name, ppid, parent, tracer, worker } = zombie;
        let traced_by = tracer.map(|tracer| format!("pid {tracer}"));
        table.row([
            cell(pid),
            cell(name),
            maybe(worker.as_ref()),
            cell(format!("{parent} (pid {ppid})")),
            maybe(traced_by),
        ]);
    }
    doc.table(&table);
    doc.sentence("A zombie disappears when its parent reaps it, or when the parent exits.", Tone::Dim);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Palette;
    use crate::test_data;

    fn shown(report: &ZombieReport, width: usize) -> String {
        let mut doc = Document::new(Palette::Plain, width);
        render(&mut doc, report, false);
        doc.into_text()
    }

    /// R-CLI-1, R-VER-1: a tracer is named.
    #[test]
    fn zombies_are_shown_with_parent_and_tracer() {
        insta::assert_snapshot!(shown(&test_data::zombies(), 80), @r"
         PID  NAME  WORKER  PARENT                                            TRACED BY
        5001  sh    docs    node /home/kim/src/docs/node_modules/.bin/server  -
                            --port 8082 --verbose (pid 4711)
        5002  sh    -       node /home/kim/src/docs/node_modules/.bin/server  pid 77
                            --port 8082 --verbose (pid 4711)
        A zombie disappears when its parent reaps it, or when the parent exits.
        ");
        insta::assert_snapshot!(shown(&test_data::zombies(), 200), @r"
         PID  NAME  WORKER  PARENT                                                                             TRACED BY
        5001  sh    docs    node /home/kim/src/docs/node_modules/.bin/server --port 8082 --verbose (pid 4711)  -
        5002  sh    -       node /home/kim/src/docs/node_modules/.bin/server --port 8082 --verbose (pid 4711)  pid 77
        A zombie disappears when its parent reaps it, or when the parent exits.
        ");
    }

    #[test]
    fn without_zombies_the_number_of_checked_processes_is_shown() {
        let none = ZombieReport { zombies: Vec::new(), ..test_data::zombies() };
        insta::assert_snapshot!(shown(&none, 80), @"No zombies below mcpd (312 processes checked)");
    }
}
