//! `mcpctl service status`.

use std::collections::BTreeMap;
use std::path::Path;

use mcpd_common::exit_code::{self, program};
use mcpd_common::os::ServiceManagerKind;
use serde::Serialize;

use super::{QUESTION_LIMIT, check_manager, existing, installation};
use crate::args::ServiceScope;
use crate::color::Tone;
use crate::context::Context;
use crate::failure::{Failure, SUCCESS};
use crate::service::installation::{Installation, Scope, UNIT};
use crate::service::program as programs;
use crate::service::stamp::FileState;

const ACTION: &str = "show the service";

/// `schema` of the JSON output.
const SCHEMA: &str = "mcpd.service-status.v1";

/// The properties of the unit that a person needs.
const PROPERTIES: [&str; 9] = [
    "ActiveState",
    "SubState",
    "Result",
    "UnitFileState",
    "MainPID",
    "NRestarts",
    "StatusText",
    "ExecMainStatus",
    "NeedDaemonReload",
];

#[derive(Debug, Serialize)]
struct Shown<'a> {
    installed: bool,
    file: &'a Path,
    file_state: &'static str,
    active: bool,
    properties: &'a BTreeMap<String, String>,
}

pub async fn run(context: &mut Context, scope: &ServiceScope) -> Result<u8, Failure> {
    let installation = installation(ACTION, scope)?;
    let existing = existing(ACTION, &installation)?;
    let file = installation.file.display();
    let otherwise = match existing {
        Some(_) => format!("{file} exists; `mcpctl status` asks mcpd itself"),
        None => {
            let other = match installation.scope {
                Scope::User => " (--system shows that of the system)",
                Scope::System => "",
            };
            format!(
                "{file} does not exist: the service is not installed{other}. `mcpctl status` asks mcpd itself"
            )
        }
    };
    check_manager(ACTION, &installation, &otherwise).await?;
    let properties = properties(&installation).await;
    let state = FileState::of(existing.as_deref(), "");
    let is_active = match installation.kind {
        ServiceManagerKind::Systemd => properties.get("ActiveState").is_some_and(|state| state == "active"),
        ServiceManagerKind::Launchd => properties.get("state").is_some_and(|state| state == "running"),
    };
    let shown = Shown {
        installed: existing.is_some(),
        file: &installation.file,
        file_state: name(state),
        active: is_active,
        properties: &properties,
    };
    if context.out.is_json() {
        context.out.json_with_schema(SCHEMA, &shown);
    } else {
        show(context, &installation, &shown);
    }
    Ok(if is_active { SUCCESS } else { program::NOT_RUNNING })
}

fn name(state: FileState) -> &'static str {
    match state {
        FileState::Absent => "not installed",
        FileState::Current | FileState::Outdated => "as mcpctl wrote it",
        FileState::Edited => "changed by hand",
        FileState::Foreign => "not written by mcpctl",
    }
}

async fn properties(installation: &Installation) -> BTreeMap<String, String> {
    let words = match installation.kind {
        ServiceManagerKind::Systemd => {
            installation.systemctl(&["show", UNIT, &format!("--property={}", PROPERTIES.join(","))])
        }
        ServiceManagerKind::Launchd => installation.is_active(),
    };
    let Ok(ran) = programs::run(&words, QUESTION_LIMIT).await else { return BTreeMap::new() };
    match installation.kind {
        ServiceManagerKind::Systemd => pairs(&ran.stdout, "=", &PROPERTIES),
        ServiceManagerKind::Launchd => pairs(&ran.stdout, " = ", &["state", "pid", "last exit code", "runs"]),
    }
}

/// The first value of each wanted key.
fn pairs(text: &str, separator: &str, wanted: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (key, value) in text.lines().filter_map(|line| line.trim().split_once(separator)) {
        if wanted.contains(&key) {
            found.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    found
}

fn show(context: &mut Context, installation: &Installation, shown: &Shown) {
    let property = |key: &str| shown.properties.get(key).map_or("", String::as_str);
    let mut doc = context.out.document();
    doc.labelled("file      ", &format!("{} ({})", shown.file.display(), shown.file_state), Tone::Plain);
    let tone = if shown.active { Tone::Good } else { Tone::Warn };
    match installation.kind {
        ServiceManagerKind::Systemd => {
            let state = format!(
                "{} ({}), result {}, {}",
                property("ActiveState"),
                property("SubState"),
                property("Result"),
                property("UnitFileState")
            );
            doc.labelled("state     ", state.trim_end_matches([',', ' ']), tone);
            let code = property("ExecMainStatus").parse().unwrap_or(0);
            if !shown.active && code != 0 {
                doc.labelled("exit code ", &format!("{code}: {}", exit_code::meaning(code)), Tone::Warn);
            }
            if !property("StatusText").is_empty() {
                doc.labelled("mcpd      ", property("StatusText"), Tone::Plain);
            }
            let process = format!("{}, {} restarts", property("MainPID"), property("NRestarts"));
            if shown.active {
                doc.labelled("main pid  ", &process, Tone::Plain);
            }
            if property("NeedDaemonReload") == "yes" {
                let reload = installation.systemctl(&["daemon-reload"]).join(" ");
                doc.labelled(
                    "note      ",
                    &format!("the file has changed since systemd read it: {reload}"),
                    Tone::Warn,
                );
            }
        }
        ServiceManagerKind::Launchd => {
            let state = if property("state").is_empty() { "not loaded" } else { property("state") };
            doc.labelled("state     ", state, tone);
            for (label, key) in
                [("pid       ", "pid"), ("last exit ", "last exit code"), ("runs      ", "runs")]
            {
                if !property(key).is_empty() {
                    doc.labelled(label, property(key), Tone::Plain);
                }
            }
        }
    }
    if let Some((label, words)) = next_step(installation, shown) {
        doc.labelled(label, &words, Tone::Plain);
    }
    doc.labelled("look with ", &format!("mcpctl status; {}", installation.look()), Tone::Dim);
    context.out.print(doc);
}

/// What makes an inactive service run.
fn next_step(installation: &Installation, shown: &Shown) -> Option<(&'static str, String)> {
    if !shown.installed {
        let scope = match installation.scope {
            Scope::User => "",
            Scope::System => " --system",
        };
        return Some(("install   ", format!("mcpctl service install{scope}")));
    }
    let is_masked = shown.properties.get("UnitFileState").is_some_and(|state| state == "masked");
    match installation.kind {
        ServiceManagerKind::Systemd if is_masked => {
            Some(("unmask    ", installation.systemctl(&["unmask", UNIT]).join(" ")))
        }
        ServiceManagerKind::Systemd if !shown.active => {
            Some(("start     ", installation.systemctl(&["start", UNIT]).join(" ")))
        }
        ServiceManagerKind::Launchd if !shown.active => {
            Some(("start     ", format!("launchctl kickstart {}", installation.job())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wanted_properties_are_read() {
        let text = "ActiveState=active\nStatusText=1 of 1 worker ready, x=y\nOther=1\n";
        let found = pairs(text, "=", &PROPERTIES);
        assert_eq!(found.len(), 2);
        assert_eq!(found["StatusText"], "1 of 1 worker ready, x=y");
        let text =
            "gui/501/org.mcpd.mcpd = {\n\tstate = running\n\tpid = 7\n\tsub = {\n\t\tstate = other\n\t}\n}\n";
        let found = pairs(text, " = ", &["state", "pid"]);
        assert_eq!((found["state"].as_str(), found["pid"].as_str()), ("running", "7"));
    }
}
