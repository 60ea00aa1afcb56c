//! `mcpctl list-zombies`: below the daemon or on the machine; works without a daemon.

use mcpd_common::check::zombies::{self, Scope, Zombie, ZombieReport};
use mcpd_common::exit_code::Severity;
use mcpd_common::ids::Pid;
use mcpd_common::os::CannotLook;
use mcpd_common::run_file::RunFile;
use mcpd_proto::v1;
use tokio::time::timeout;

use crate::args::ListZombies;
use crate::client::{ANSWER, Daemon, silent, unreadable};
use crate::context::Context;
use crate::doc::Doc;
use crate::exit::{Failure, SUCCESS};
use crate::leftovers::{self, marked};
use crate::offline::Local;
use crate::paint::Tone;
use crate::table::{Column, Table, cell, maybe};
use crate::text::count;

const TRIED: &str = "list the zombies";

/// Lists them.
pub async fn run(context: &mut Context, args: ListZombies) -> Result<u8, Failure> {
    let report = match context.reach(TRIED).await? {
        Some(mut daemon) => ask(&mut daemon, args.all).await?,
        None if args.all => zombies::look(Scope::Machine, &|_| None).map_err(cannot_look)?,
        None => left_behind(&context.local()).map_err(cannot_look)?,
    };
    if context.out.is_json() {
        context.out.json(&report);
    } else {
        let mut doc = context.out.doc();
        render(&mut doc, &report, args.all);
        context.out.print(doc);
    }
    Ok(if report.zombies.is_empty() { SUCCESS } else { Severity::ProcessLeft.code() })
}

async fn ask(daemon: &mut Daemon, all: bool) -> Result<ZombieReport, Failure> {
    let request = v1::ListZombiesRequest { all };
    let answer = timeout(ANSWER, daemon.control.list_zombies(request)).await;
    let answer = answer.map_err(|_| silent(TRIED, &daemon.socket))?;
    let message = answer.map_err(|status| daemon.answered(TRIED, &status))?.into_inner();
    message.try_into().map_err(|error| unreadable(TRIED, error))
}

/// Without a daemon nothing is below it: what carries the mark of its last run counts.
fn left_behind(local: &Local) -> Result<ZombieReport, CannotLook> {
    let run = RunFile::read(&local.state.run_file()).ok().flatten();
    let marked = run.as_ref().map(|run| marked(run.run.tag())).transpose()?.unwrap_or_default();
    let slot_name = |pid: Pid| {
        let slot = marked.get(&pid)?;
        let workers = &run.as_ref()?.workers;
        workers.iter().find(|worker| worker.slot == *slot).map(|worker| worker.name.clone())
    };
    let mut report = zombies::look(Scope::Machine, &slot_name)?;
    report.zombies.retain(|zombie| marked.contains_key(&zombie.pid));
    Ok(report)
}

fn cannot_look(error: CannotLook) -> Failure {
    leftovers::cannot_look(TRIED, error)
}

fn render(doc: &mut Doc, report: &ZombieReport, all: bool) {
    let place = if all { "on this machine" } else { "below mcpd" };
    if report.zombies.is_empty() {
        let looked_at = count(report.examined as usize, "process").replace("processs", "processes");
        return doc.sentence(&format!("No zombie {place} ({looked_at} looked at)"), Tone::Good);
    }
    let mut table = Table::new([
        Column::new("PID").right(),
        Column::new("NAME").cut(8),
        Column::new("WORKER").cut(8).optional(2),
        Column::new("PARENT").fold(24),
        Column::new("KEPT BY").optional(1),
    ]);
    for zombie in &report.zombies {
        let Zombie { pid, name, ppid, parent, tracer, worker } = zombie;
        let kept_by = tracer.map(|tracer| format!("tracer {tracer}"));
        table.row([
            cell(pid),
            cell(name),
            maybe(worker.as_ref()),
            cell(format!("{parent} (pid {ppid})")),
            maybe(kept_by),
        ]);
    }
    doc.table(&table);
    doc.sentence("Each waits for its parent to take its exit status; ending the parent ends it.", Tone::Dim);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paint::Palette;
    use crate::samples;

    fn shown(report: &ZombieReport, width: usize) -> String {
        let mut doc = Doc::new(Palette::Plain, width);
        render(&mut doc, report, false);
        doc.into_text()
    }

    /// R-CLI-1, R-VER-1: whoever traces it is named.
    #[test]
    fn at_80_and_200_columns() {
        insta::assert_snapshot!(shown(&samples::zombies(), 80), @r"
         PID  NAME  WORKER  PARENT                                            KEPT BY
        5001  sh    docs    node /home/kim/src/docs/node_modules/.bin/server  -
                            --port 8082 --verbose (pid 4711)
        5002  sh    -       node /home/kim/src/docs/node_modules/.bin/server  tracer 77
                            --port 8082 --verbose (pid 4711)
        Each waits for its parent to take its exit status; ending the parent ends it.
        ");
        insta::assert_snapshot!(shown(&samples::zombies(), 200), @r"
         PID  NAME  WORKER  PARENT                                                                             KEPT BY
        5001  sh    docs    node /home/kim/src/docs/node_modules/.bin/server --port 8082 --verbose (pid 4711)  -
        5002  sh    -       node /home/kim/src/docs/node_modules/.bin/server --port 8082 --verbose (pid 4711)  tracer 77
        Each waits for its parent to take its exit status; ending the parent ends it.
        ");
    }

    #[test]
    fn none_is_said_in_words() {
        let none = ZombieReport { zombies: Vec::new(), ..samples::zombies() };
        insta::assert_snapshot!(shown(&none, 80), @"No zombie below mcpd (312 processes looked at)");
    }
}
