//! `mcpctl verify-ports`: a row per port; works without a daemon.

use mcpd_common::check::ports::{self, KnownPort, PORT_SCHEMA, PortReport, PortState};
use mcpd_common::exit_code::{Severity, program};
use mcpd_common::ids::{Pid, Port};
use mcpd_common::os::process;
use mcpd_common::run_file::RunFile;
use mcpd_proto::v1;

use crate::args::VerifyPorts;
use crate::client::{Daemon, unreadable};
use crate::context::Context;
use crate::doc::Doc;
use crate::exit::{Failure, SUCCESS};
use crate::offline::Local;
use crate::paint::Tone;
use crate::table::{Cell, Column, Table, cell, maybe};

const TRIED: &str = "look at the ports";

/// Shows them, and what is wrong with them.
pub async fn run(context: &mut Context, args: VerifyPorts) -> Result<u8, Failure> {
    let reports = match context.reach(TRIED).await? {
        Some(mut daemon) => ask(&mut daemon, &args.ports).await?,
        None => look(&context.local(), &args.ports)?,
    };
    if context.out.is_json() {
        for report in &reports {
            context.out.json_line(PORT_SCHEMA, report);
        }
    } else {
        let mut doc = context.out.doc();
        render(&mut doc, &reports);
        context.out.print(doc);
    }
    let in_use = reports.iter().any(|report| report.state == PortState::InUse);
    Ok(if in_use { Severity::PortInUse.code() } else { SUCCESS })
}

async fn ask(daemon: &mut Daemon, ports: &[Port]) -> Result<Vec<PortReport>, Failure> {
    let request = v1::VerifyPortsRequest { ports: ports.iter().map(|port| port.get().into()).collect() };
    let answer = daemon.control.verify_ports(request).await;
    let mut stream = answer.map_err(|status| daemon.answered(TRIED, &status))?.into_inner();
    let mut reports = Vec::new();
    while let Some(message) = stream.message().await.map_err(|status| daemon.answered(TRIED, &status))? {
        reports.push(PortReport::try_from(message).map_err(|error| unreadable(TRIED, error))?);
    }
    Ok(reports)
}

/// Without a daemon: the ports that were asked for, else those of the configuration and of the
/// run file.
fn look(local: &Local, asked: &[Port]) -> Result<Vec<PortReport>, Failure> {
    let run = RunFile::read(&local.state.run_file()).ok().flatten();
    let known = local.known_ports(run.as_ref());
    let whose = |port: &Port| known.iter().find(|known| known.port == *port).and_then(|k| k.worker.clone());
    let chosen: Vec<_> = match asked {
        [] => known,
        asked => asked.iter().map(|port| KnownPort { port: *port, worker: whose(port) }).collect(),
    };
    if chosen.is_empty() {
        return Err(nothing_known(local));
    }
    let slot_name = |pid: Pid| {
        let (run, mark) = (run.as_ref()?, process::best_effort::mark(pid)?);
        let mut workers = run.workers.iter().filter(|_| mark.run == run.run.tag());
        workers.find(|worker| worker.slot == mark.slot).map(|worker| worker.name.clone())
    };
    let mut reports = ports::examine(&chosen, &slot_name);
    // Nobody supervises it: a worker that listens now is one that was left behind.
    for report in reports.iter_mut().filter(|report| report.state == PortState::Serving) {
        report.state = PortState::InUse;
    }
    Ok(reports)
}

fn nothing_known(local: &Local) -> Failure {
    let happened = match &local.problem {
        Some(problem) => format!("mcpd is not running, and its configuration can't be used: {problem}"),
        None => "mcpd is not running, and no configuration names a port".to_owned(),
    };
    let code = if local.problem.is_some() { program::CONFIG } else { program::USAGE };
    Failure::new(code, TRIED, happened, "name ports with --port, or a configuration with --config")
}

fn render(doc: &mut Doc, reports: &[PortReport]) {
    let mut table = Table::new([
        Column::new("PORT").right(),
        Column::new("WORKER").cut(8).optional(1),
        Column::new("STATE"),
        Column::new("TIME_WAIT").right().optional(2),
        Column::new("HELD BY").fold(24),
    ]);
    for report in reports {
        table.row([
            cell(report.port),
            maybe(report.worker.as_ref()),
            state(report.state),
            time_wait(report),
            held_by(report),
        ]);
    }
    doc.table(&table);
    for report in reports.iter().filter(|report| report.state == PortState::InUse) {
        for refused in &report.refused {
            doc.labelled("  can't be bound: ", refused, Tone::Bad);
        }
    }
}

/// The state of a port, for a table.
pub fn state(state: PortState) -> Cell {
    match state {
        PortState::Free => cell("free").tone(Tone::Good),
        PortState::TimeWait => cell("free (TIME_WAIT)").tone(Tone::Good),
        PortState::Serving => cell("serving").tone(Tone::Good),
        PortState::InUse => cell("in use").tone(Tone::Bad),
    }
}

/// Who holds a port, for a table: each process once, with all its sockets.
pub fn held_by(report: &PortReport) -> Cell {
    let mut processes: Vec<(String, Vec<String>)> = Vec::new();
    for holder in &report.holders {
        let pid = holder.pid.map_or_else(|| "unknown pid".to_owned(), |pid| format!("pid {pid}"));
        let process = format!("{} ({pid}, {}", holder.command, holder.user);
        let socket = format!("{} {}", holder.state, holder.address);
        match processes.iter_mut().find(|(known, _)| *known == process) {
            Some((_, sockets)) => sockets.push(socket),
            None => processes.push((process, vec![socket])),
        }
    }
    let named = processes.iter().map(|(process, sockets)| format!("{process}, {})", sockets.join(", ")));
    let named = named.collect::<Vec<_>>().join("; ");
    maybe((!named.is_empty()).then_some(named))
}

fn time_wait(report: &PortReport) -> Cell {
    let seconds = report.time_wait_seconds;
    maybe((report.time_wait > 0).then(|| format!("{} for {seconds} s", report.time_wait)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paint::Palette;
    use crate::samples;

    fn shown(width: usize) -> String {
        let mut doc = Doc::new(Palette::Plain, width);
        render(&mut doc, &samples::ports());
        doc.into_text()
    }

    /// R-CLI-1, R-VER-2: all holders, and `TIME_WAIT` as information.
    #[test]
    fn at_80_columns() {
        insta::assert_snapshot!(shown(80), @r"
        PORT  WORKER  STATE               TIME_WAIT  HELD BY
        8081  alpha   serving                     -  python3 -m http.server 8082 (pid
                                                     8081, kim, LISTEN 127.0.0.1:8082,
                                                     LISTEN [::1]:8082)
        8082  docs    in use                      -  python3 -m http.server 8082 (pid
                                                     991, kim, LISTEN 127.0.0.1:8082);
                                                     python3 -m http.server 8082
                                                     (unknown pid, root, LISTEN
                                                     127.0.0.1:8082)
        8083  -       free (TIME_WAIT)  12 for 41 s  -
        8084  -       free                        -  -
          can't be bound: 127.0.0.1:8082: address in use
        ");
    }

    #[test]
    fn at_200_columns() {
        insta::assert_snapshot!(shown(200), @r"
        PORT  WORKER  STATE               TIME_WAIT  HELD BY
        8081  alpha   serving                     -  python3 -m http.server 8082 (pid 8081, kim, LISTEN 127.0.0.1:8082, LISTEN [::1]:8082)
        8082  docs    in use                      -  python3 -m http.server 8082 (pid 991, kim, LISTEN 127.0.0.1:8082); python3 -m http.server 8082 (unknown pid, root, LISTEN 127.0.0.1:8082)
        8083  -       free (TIME_WAIT)  12 for 41 s  -
        8084  -       free                        -  -
          can't be bound: 127.0.0.1:8082: address in use
        ");
    }

    /// R-VER-5: without a daemon and without any port that could be meant.
    #[test]
    fn without_any_port_it_says_what_to_do() {
        let failure = nothing_known(&samples::local());
        insta::assert_snapshot!(failure, @r"
        mcpctl: can't look at the ports
          mcpd is not running, and no configuration names a port
          name ports with --port, or a configuration with --config
        ");
        assert_eq!(failure.code, 64);
    }
}
