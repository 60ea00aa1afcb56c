//! The end of the account: findings, what was seen from outside, the verdict.

use mcpd_common::check::ports::PortState;
use mcpd_common::exit_code::Severity;
use mcpd_common::outcome::Finding;

use super::{Outcome, RESULT_SCHEMA, State};
use crate::context::Context;
use crate::doc::Doc;
use crate::paint::Tone;
use crate::table::{Column, Table, cell};
use crate::text::{count, duration};

/// Shows it.
pub fn show(context: &mut Context, outcome: &Outcome) {
    if context.out.is_json() {
        return context.out.json_line(RESULT_SCHEMA, outcome);
    }
    let mut doc = context.out.doc();
    render(&mut doc, outcome);
    context.out.print(doc);
}

/// Writes it.
pub fn render(doc: &mut Doc, outcome: &Outcome) {
    if !outcome.findings.is_empty() {
        // After the phases; what an earlier run left stands alone.
        if outcome.state == State::Finished {
            doc.blank();
        }
        findings(doc, &outcome.findings);
    }
    if outcome.looked_at.is_some() {
        doc.blank();
        seen(doc, outcome);
    }
    verdict(doc, outcome);
}

/// A table of findings.
pub fn findings(doc: &mut Doc, findings: &[Finding]) {
    let mut table =
        Table::new([Column::new("CODE").right(), Column::new("FOUND").cut(10), Column::new("WHAT").fold(30)]);
    for finding in findings {
        let severity = finding.kind.severity();
        let (code, tone) = match severity {
            Severity::Clean => ("-".to_owned(), Tone::Dim),
            _ => (severity.code().to_string(), tone(severity.code())),
        };
        table.row([cell(code).tone(tone), cell(&finding.subject), cell(&finding.detail)]);
    }
    doc.table(&table);
}

/// Red from where something is left, yellow where something had to be forced.
pub fn tone(code: u8) -> Tone {
    match code {
        0 => Tone::Good,
        1..=3 => Tone::Warn,
        _ => Tone::Bad,
    }
}

fn seen(doc: &mut Doc, outcome: &Outcome) {
    let label = "Seen from outside: ";
    if !outcome.disagreements.is_empty() {
        return doc.labelled(label, &outcome.disagreements.join("; "), Tone::Bad);
    }
    let held = outcome.ports.iter().filter(|port| port.state == PortState::InUse).count();
    let free = outcome.ports.len() - held;
    let ports = match (free, held) {
        (0, 0) => "no port to look at".to_owned(),
        (free, 0) => format!("{} free", count(free, "port")),
        (free, held) => format!("{} free, {held} held as reported", count(free, "port")),
    };
    doc.labelled(label, &format!("daemon gone, socket file gone, {ports}"), Tone::Plain);
}

fn verdict(doc: &mut Doc, outcome: &Outcome) {
    let took = outcome.duration_ms.map_or_else(String::new, |ms| format!(" ({})", duration(ms)));
    let code = format!("Exit code {}: ", outcome.exit_code);
    let text = match (outcome.state, outcome.daemon_exit_code) {
        (State::Finished, Some(said)) if said != outcome.exit_code => {
            format!("this is not what the daemon said, which exited with {said}{took}")
        }
        _ => format!("{}{took}", outcome.verdict),
    };
    doc.labelled(&code, &text, tone(outcome.exit_code));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::shutdown::{outcome, outside};
    use crate::paint::Palette;
    use crate::samples;

    fn look(disagreements: &[&str]) -> outside::Look {
        let disagreements = disagreements.iter().map(|text| (*text).to_owned()).collect();
        outside::Look { at: samples::at("14:00:31"), disagreements, ports: samples::ports().split_off(1) }
    }

    fn shown(outcome: &Outcome) -> String {
        let mut doc = Doc::new(Palette::Plain, 80);
        render(&mut doc, outcome);
        doc.into_text()
    }

    #[test]
    fn findings_and_the_verdict() {
        insta::assert_snapshot!(shown(&outcome(&samples::report(), look(&[]))), @r"
        CODE  FOUND         WHAT
           4  8082          port 8082 is held by python3 -m http.server 8082 (pid 991,
                            user kim, LISTEN on 127.0.0.1:8082)
           3  web-frontend  still there 20 s after SIGTERM; SIGKILL ended it
           2  docs          still there after 10 s; SIGTERM ended it
           -  8083          12 connections in TIME_WAIT for 41 s

        Seen from outside: daemon gone, socket file gone, 2 ports free, 1 held as
                           reported
        Exit code 4: a port is still in use (30.0 s)
        ");
    }

    /// R-SHUT-5: 4 if its own look disagrees; what is worse stays.
    #[test]
    fn our_own_look_counts() {
        let mut report = samples::report();
        report.findings.clear();
        report.exit_code = 0;
        let disagreeing = outcome(&report, look(&["the socket file /run/x.sock is still there"]));
        insta::assert_snapshot!(shown(&disagreeing), @r"
        Seen from outside: the socket file /run/x.sock is still there
        Exit code 4: this is not what the daemon said, which exited with 0 (30.0 s)
        ");
        assert_eq!((disagreeing.exit_code, disagreeing.daemon_exit_code), (4, Some(0)));
        report.exit_code = 5;
        assert_eq!(outcome(&report, look(&["x"])).exit_code, 5);
        report.exit_code = 0;
        assert_eq!(outcome(&report, look(&[])).exit_code, 0);
    }

    #[test]
    fn in_json_the_schema_and_every_part() {
        let mut report = samples::report();
        report.findings.truncate(1);
        let mut outcome = outcome(&report, look(&[]));
        outcome.ports.clear();
        insta::assert_snapshot!(serde_json::to_string_pretty(&outcome).expect("plain"), @r#"
        {
          "state": "finished",
          "exit_code": 4,
          "verdict": "a port is still in use",
          "run": "20261122T130501Z-3f9a2c77",
          "daemon_exit_code": 4,
          "duration_ms": 30061,
          "looked_at": "2026-11-22T14:00:31Z",
          "disagreements": [],
          "ports": [],
          "findings": [
            {
              "kind": "port_in_use",
              "subject": "8082",
              "detail": "port 8082 is held by python3 -m http.server 8082 (pid 991, user kim, LISTEN on 127.0.0.1:8082)"
            }
          ]
        }
        "#);
    }
}
