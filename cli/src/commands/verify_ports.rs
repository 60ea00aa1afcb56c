//! `mcpctl verify-ports`: one row per port. Works without a daemon.

use mcpd_common::check::ports::{self, KnownPort, PORT_SCHEMA, PortReport, PortState};
use mcpd_common::exit_code::{Severity, program};
use mcpd_common::ids::{Pid, Port, WorkerName};
use mcpd_common::os::process;
use mcpd_common::run_file::RunFile;
use mcpd_proto::v1;

use crate::args::VerifyPorts;
use crate::color::Tone;
use crate::context::Context;
use crate::daemon_client::{DaemonClient, SCAN_TIMEOUT, bad_reply};
use crate::document::Document;
use crate::failure::{Failure, SUCCESS};
use crate::leftovers::worker_name;
use crate::locations::Locations;
use crate::table::{Cell, Column, Table, cell, maybe};

const ACTION: &str = "check the ports";

pub async fn run(context: &mut Context, args: VerifyPorts) -> Result<u8, Failure> {
    let ports = [args.ports, args.port].concat();
    let reports = match context.connect(ACTION).await? {
        Some(mut daemon) => ask_daemon(&mut daemon, &ports).await?,
        None => examine_here(&context.locations(), &ports)?,
    };
    if context.out.is_json() {
        for report in &reports {
            context.out.json_with_schema(PORT_SCHEMA, report);
        }
    } else {
        let mut doc = context.out.document();
        render(&mut doc, &reports);
        context.out.print(doc);
    }
    let in_use = reports.iter().any(|report| report.state == PortState::InUse);
    Ok(if in_use { Severity::PortInUse.code() } else { SUCCESS })
}

async fn ask_daemon(daemon: &mut DaemonClient, ports: &[Port]) -> Result<Vec<PortReport>, Failure> {
    let request = v1::VerifyPortsRequest { ports: ports.iter().map(|port| port.get().into()).collect() };
    let wait = daemon.wait_for(ACTION, "the state of the ports", SCAN_TIMEOUT);
    let mut stream = wait.reply(daemon.control.verify_ports(request)).await?;
    let mut reports = Vec::new();
    while let Some(message) = wait.message(&mut stream).await? {
        reports.push(PortReport::try_from(message).map_err(|error| bad_reply(ACTION, error))?);
    }
    Ok(reports)
}

/// Without a daemon: examines the named ports, or those of the configuration and of the run file.
fn examine_here(locations: &Locations, named: &[Port]) -> Result<Vec<PortReport>, Failure> {
    let run = RunFile::read(&locations.state.run_file()).ok().flatten();
    let known = locations.known_ports(run.as_ref());
    let chosen =
        if named.is_empty() { known } else { named.iter().map(|port| named_port(*port, &known)).collect() };
    if chosen.is_empty() {
        return Err(no_known_port(locations));
    }
    let worker_of = |pid: Pid| worker_of(run.as_ref()?, pid);
    let mut reports = ports::examine(&chosen, &worker_of);
    // Without a daemon a worker that still listens was left behind: its port is in use.
    for report in reports.iter_mut().filter(|report| report.state == PortState::Serving) {
        report.state = PortState::InUse;
    }
    Ok(reports)
}

/// A port named on the command line, with the worker that it belongs to if that is known.
fn named_port(port: Port, known: &[KnownPort]) -> KnownPort {
    let worker = known.iter().find(|known| known.port == port).and_then(|known| known.worker.clone());
    KnownPort { port, worker }
}

fn worker_of(run: &RunFile, pid: Pid) -> Option<WorkerName> {
    let mark = process::best_effort::mark(pid).filter(|mark| mark.run == run.run.tag())?;
    worker_name(run, mark.slot)
}

fn no_known_port(locations: &Locations) -> Failure {
    let (code, happened) = match &locations.problem {
        Some(problem) => {
            (program::CONFIG, format!("mcpd is not running, and its configuration can't be used: {problem}"))
        }
        None => (program::USAGE, "mcpd is not running, and no configuration names a port".to_owned()),
    };
    Failure::new(
        code,
        ACTION,
        happened,
        "name ports (`mcpctl verify-ports 8081`), or a configuration with --config",
    )
}

fn render(doc: &mut Document, reports: &[PortReport]) {
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
            doc.labelled("  can't bind ", refused, Tone::Bad);
        }
    }
}

pub fn state(state: PortState) -> Cell {
    match state {
        PortState::Free => cell("free").tone(Tone::Good),
        PortState::TimeWait => cell("free (TIME_WAIT)").tone(Tone::Good),
        PortState::Serving => cell("serving").tone(Tone::Good),
        PortState::InUse => cell("in use").tone(Tone::Bad),
        PortState::NotReady => cell("not ready").tone(Tone::Warn),
    }
}

/// The holders of a port: each process once, with all its sockets.
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
    let holders: Vec<_> =
        processes.iter().map(|(process, sockets)| format!("{process}, {})", sockets.join(", "))).collect();
    maybe((!holders.is_empty()).then(|| holders.join("; ")))
}

fn time_wait(report: &PortReport) -> Cell {
    let seconds = report.time_wait_seconds;
    maybe((report.time_wait > 0).then(|| format!("{} for {seconds} s", report.time_wait)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Palette;
    use crate::test_data;

    fn shown(width: usize) -> String {
        let mut doc = Document::new(Palette::Plain, width);
        render(&mut doc, &test_data::ports());
        doc.into_text()
    }

    /// R-CLI-1, R-VER-2: all holders, and `TIME_WAIT` as information.
    #[test]
    fn ports_at_80_columns() {
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
          can't bind 127.0.0.1:8082: address in use
        ");
    }

    #[test]
    fn ports_at_200_columns() {
        insta::assert_snapshot!(shown(200), @r"
        PORT  WORKER  STATE               TIME_WAIT  HELD BY
        8081  alpha   serving                     -  python3 -m http.server 8082 (pid 8081, kim, LISTEN 127.0.0.1:8082, LISTEN [::1]:8082)
        8082  docs    in use                      -  python3 -m http.server 8082 (pid 991, kim, LISTEN 127.0.0.1:8082); python3 -m http.server 8082 (unknown pid, root, LISTEN 127.0.0.1:8082)
        8083  -       free (TIME_WAIT)  12 for 41 s  -
        8084  -       free                        -  -
          can't bind 127.0.0.1:8082: address in use
        ");
    }

    /// R-VER-5: without a daemon, without `--port` and without a configuration.
    #[test]
    fn without_any_known_port_the_failure_says_what_to_name() {
        let failure = no_known_port(&test_data::locations());
        insta::assert_snapshot!(failure, @r"
        mcpctl: can't check the ports
          mcpd is not running, and no configuration names a port
          name ports (`mcpctl verify-ports 8081`), or a configuration with --config
        ");
        assert_eq!(failure.code, 64);
    }
}
