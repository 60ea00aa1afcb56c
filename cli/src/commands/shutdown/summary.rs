//! The end of the output: findings, external check, exit code.

use mcpd_common::check::ports::PortState;
use mcpd_common::exit_code::Severity;
use mcpd_common::outcome::Finding;

use super::{Outcome, RESULT_SCHEMA, State};
use crate::color::Tone;
use crate::context::Context;
use crate::document::Document;
use crate::formatting::{count, duration};
use crate::table::{Column, Table, cell};

pub fn show(context: &mut Context, outcome: &Outcome) {
    if context.out.is_json() {
        return context.out.json_with_schema(RESULT_SCHEMA, outcome);
    }
    let mut doc = context.out.document();
    render(&mut doc, outcome);
    context.out.print(doc);
}

pub fn render(doc: &mut Document, outcome: &Outcome) {
    if !outcome.findings.is_empty() {
        // Separates the findings from the phases above. Leftovers of an earlier run have nothing above them.
        if outcome.state == State::Finished {
            doc.blank_line();
        }
        findings(doc, &outcome.findings);
    }
    if outcome.looked_at.is_some() {
        doc.blank_line();
        external_check(doc, outcome);
    }
    exit_code(doc, outcome);
}

pub fn findings(doc: &mut Document, findings: &[Finding]) {
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

/// Red if something is left, yellow if something had to be forced.
pub fn tone(code: u8) -> Tone {
    match code {
        0 => Tone::Good,
        1..=3 => Tone::Warn,
        _ => Tone::Bad,
    }
}

fn external_check(doc: &mut Document, outcome: &Outcome) {
    let label = "Checked by mcpctl: ";
    if !outcome.disagreements.is_empty() {
        return doc.labelled(label, &outcome.disagreements.join("; "), Tone::Bad);
    }
    let held = outcome.ports.iter().filter(|port| port.state == PortState::InUse).count();
    let free = outcome.ports.len() - held;
    let ports = match (free, held) {
        (0, 0) => "no ports to check".to_owned(),
        (free, 0) => format!("{} free", count(free, "port")),
        (free, held) => format!("{} free, {held} in use as reported", count(free, "port")),
    };
    doc.labelled(label, &format!("daemon gone, socket file gone, {ports}"), Tone::Plain);
}

fn exit_code(doc: &mut Document, outcome: &Outcome) {
    let took = outcome.duration_ms.map_or_else(String::new, |ms| format!(" ({})", duration(ms)));
    let code = format!("Exit code {}: ", outcome.exit_code);
    let text = match (outcome.state, outcome.daemon_exit_code) {
        (State::Finished, Some(code)) if code != outcome.exit_code => {
            format!("the check contradicts the daemon, which exited with {code}{took}")
        }
        _ => format!("{}{took}", outcome.verdict),
    };
    doc.labelled(&code, &text, tone(outcome.exit_code));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Palette;
    use crate::commands::shutdown::external_check::ExternalCheck;
    use crate::test_data;

    fn check(disagreements: &[&str]) -> ExternalCheck {
        let disagreements = disagreements.iter().map(|text| (*text).to_owned()).collect();
        ExternalCheck { at: test_data::at("14:00:31"), disagreements, ports: test_data::ports().split_off(1) }
    }

    fn shown(outcome: &Outcome) -> String {
        let mut doc = Document::new(Palette::Plain, 80);
        render(&mut doc, outcome);
        doc.into_text()
    }

    #[test]
    fn findings_the_check_and_the_exit_code_are_shown() {
        insta::assert_snapshot!(shown(&Outcome::finished(&test_data::report()).checked(check(&[]))), @r"
        CODE  FOUND         WHAT
           4  8082          port 8082 is held by python3 -m http.server 8082 (pid 991,
                            user kim, LISTEN on 127.0.0.1:8082)
           3  web-frontend  still there 20 s after SIGTERM; SIGKILL ended it
           2  docs          still there after 10 s; SIGTERM ended it
           -  8083          12 connections in TIME_WAIT for 41 s

        Checked by mcpctl: daemon gone, socket file gone, 2 ports free, 1 in use as
                           reported
        Exit code 4: a port is still in use (30.0 s)
        ");
    }

    /// R-SHUT-5: a more severe code stays.
    #[test]
    fn a_disagreement_raises_the_exit_code_to_4() {
        let mut report = test_data::report();
        report.findings.clear();
        report.exit_code = 0;
        let disagreeing =
            Outcome::finished(&report).checked(check(&["the socket file /run/x.sock is still there"]));
        insta::assert_snapshot!(shown(&disagreeing), @r"
        Checked by mcpctl: the socket file /run/x.sock is still there
        Exit code 4: the check contradicts the daemon, which exited with 0 (30.0 s)
        ");
        assert_eq!((disagreeing.exit_code, disagreeing.daemon_exit_code), (4, Some(0)));
        report.exit_code = 5;
        assert_eq!(Outcome::finished(&report).checked(check(&["x"])).exit_code, 5);
        report.exit_code = 0;
        assert_eq!(Outcome::finished(&report).checked(check(&[])).exit_code, 0);
    }

    #[test]
    fn the_json_outcome_has_every_field() {
        let mut report = test_data::report();
        report.findings.truncate(1);
        let mut outcome = Outcome::finished(&report).checked(check(&[]));
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
