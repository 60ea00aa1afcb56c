//! The property list against launchd.plist(5): its keys, their types and values, and when launchd starts mcpd again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcpd_common::exit_code::{self, ServiceOutcome, service_outcome};
use serde::Deserialize;

use super::tests::values;
use super::{LABEL, RestartWhen, Values, launchd};

/// The keys of launchd.plist(5) that are used. launchd ignores unknown keys and keys of a wrong type without a word.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Job {
    label: String,
    program_arguments: Vec<String>,
    user_name: Option<String>,
    environment_variables: BTreeMap<String, String>,
    run_at_load: bool,
    keep_alive: KeepAlive,
    throttle_interval: u32,
    exit_time_out: u32,
    process_type: ProcessType,
    standard_error_path: PathBuf,
}

/// A dictionary: several conditions would be alternatives.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeepAlive {
    /// Whether the job is started again after 0 (true) or after everything else (false).
    successful_exit: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
enum ProcessType {
    Background,
    Standard,
    Adaptive,
    Interactive,
}

fn job(values: &Values) -> Job {
    let list = launchd(values);
    plist::from_bytes(list.as_bytes()).unwrap_or_else(|error| panic!("{error}: {list}"))
}

#[test]
fn every_key_has_the_type_and_value_of_the_manual() {
    for user in [None, Some("kim")] {
        let values = values(user);
        let expected = Job {
            label: LABEL.to_owned(),
            program_arguments: ["/home/kim/.cargo/bin/mcpd", "--launchd", "--config"]
                .into_iter()
                .chain(["/home/kim/.config/mcpd/config.toml"])
                .map(str::to_owned)
                .collect(),
            // Only for a job of the system: an agent has the user of its session.
            user_name: user.map(str::to_owned),
            environment_variables: [("PATH".to_owned(), values.path.clone())].into(),
            run_at_load: true,
            keep_alive: KeepAlive { successful_exit: false },
            throttle_interval: 10,
            // Beyond the longest shutdown; 20 s unless set.
            exit_time_out: 111,
            process_type: ProcessType::Interactive,
            standard_error_path: "/Users/kim/Library/Logs/mcpd.log".into(),
        };
        assert_eq!(job(&values), expected);
    }
}

/// launchd expands neither variables nor "~", and has no working directory but "/".
#[test]
fn all_paths_are_absolute() {
    let job = job(&values(None));
    assert!(Path::new(&job.program_arguments[0]).is_absolute());
    assert!(Path::new(&job.program_arguments[3]).is_absolute());
    assert!(job.standard_error_path.is_absolute());
}

#[test]
fn text_arrives_as_it_was_meant() {
    let path = "/a & b/<c>:/\"d\"/'e'".to_owned();
    let config = "/srv/Kim's <files> & more/config.toml";
    let job = job(&Values { path: path.clone(), config: config.into(), ..values(None) });
    assert_eq!(job.environment_variables["PATH"], path);
    assert_eq!(job.program_arguments[3], config);
}

/// R-SVC-3. `mcpd` exits with what [`exit_code::for_launchd`] makes of its code, and launchd decides by `KeepAlive`.
#[test]
fn neither_a_requested_shutdown_nor_a_start_that_can_not_succeed_loops() {
    for restart in [RestartWhen::OnFailure, RestartWhen::Always] {
        let job = job(&Values { restart, ..values(None) });
        let mode = match job.program_arguments[1].as_str() {
            "--launchd" => exit_code::RestartWhen::OnFailure,
            "--launchd=always" => exit_code::RestartWhen::Always,
            other => panic!("{other}"),
        };
        let starts_again = |code: u8| {
            let is_success = exit_code::for_launchd(code, mode) == 0;
            is_success == job.keep_alive.successful_exit
        };
        for code in 0..=u8::MAX {
            let expected = match code {
                64 | 75 | 78 => false,
                _ if restart == RestartWhen::Always => true,
                0..=6 | 102 => false,
                _ => service_outcome(code) == ServiceOutcome::Restart,
            };
            assert_eq!(starts_again(code), expected, "{restart:?}: {code}");
        }
        assert!(starts_again(100) && starts_again(101), "a crash is never final");
    }
}
