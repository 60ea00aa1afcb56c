//! Recovery on real files, of runs of which no process is left.

use std::fs;
use std::path::Path;

use mcpd_common::crash::{CleanedUpBy, LeftoverProcess};
use mcpd_common::ids::{Pid, RunId};
use mcpd_common::os::process::StartTime;
use mcpd_common::os::{self, backend};
use mcpd_common::run_file::{ProcessId, RUN_FILE_SCHEMA};

use super::*;

fn run() -> RunId {
    RunId::new(Timestamp::now(), RunTag(std::process::id()))
}

fn run_file(run: RunId, boot_id: String) -> RunFile {
    RunFile {
        schema: RUN_FILE_SCHEMA.to_owned(),
        run,
        boot_id,
        daemon: ProcessId { pid: Pid::current(), start: StartTime(1) },
        guardian: None,
        socket: "/nowhere".into(),
        version: "0.1.0".to_owned(),
        workers: vec![],
    }
}

/// Written by a guardian that could not kill one process.
fn crash_record(run: RunId) -> CrashRecord {
    let process =
        |command: &str| LeftoverProcess { pid: Pid::current(), command: command.to_owned(), worker: None };
    CrashRecord {
        run,
        version: "0.1.0".to_owned(),
        cleaned_up_by: CleanedUpBy::Guardian,
        daemon: Pid::current(),
        end: DaemonEnd::Overrun,
        detected_at: run.began(),
        finished_at: run.began(),
        backend: backend(),
        proved: false,
        ended_count: 2,
        ended: vec![process("ended")],
        left: vec![process("left")],
        preexisting: vec![],
        damaged_lines: 0,
    }
}

fn this_boot() -> String {
    os::boot_id().expect("readable")
}

fn state_in(directory: &Path) -> StateDir {
    StateDir::new(directory)
}

/// R-CONT-6: what the guardian could not kill is gone by now; what it knew is kept.
#[tokio::test]
async fn the_record_of_the_guardian_is_completed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = state_in(directory.path());
    let run = run();
    crash_record(run).publish(&state).expect("written");
    run_file(run, this_boot()).write(&state.run_file()).expect("written");
    let last = LastRun::recover(&state).await;
    let record = last.record.expect("a record");
    assert_eq!((record.end, record.ended_count, record.left), (DaemonEnd::Overrun, 2, vec![]));
    assert!(record.finished_at > run.began());
    assert!(
        last.warnings.iter().any(|warning| warning.contains("did not end properly")),
        "{:?}",
        last.warnings
    );
}

/// R-CONT-6: guardian and daemon were killed after the daemon had written its report.
#[tokio::test]
async fn the_exit_code_of_a_written_report_is_kept() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = state_in(directory.path());
    let run = run();
    let report = ShutdownReport { exit_code: 3, ..crash_record(run).report(None) };
    fs::write(state.last_shutdown(), serde_json::to_vec(&report).expect("JSON")).expect("written");
    run_file(run, this_boot()).write(&state.run_file()).expect("written");
    let last = LastRun::recover(&state).await;
    assert_eq!(last.record.map(|record| record.end), Some(DaemonEnd::Completed(3)));
}

/// After another boot pids and marks mean nothing: nothing is looked for.
#[tokio::test]
async fn no_process_outlives_a_boot() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = state_in(directory.path());
    run_file(run(), "another boot".to_owned()).write(&state.run_file()).expect("written");
    let last = LastRun::recover(&state).await;
    let record = last.record.expect("a record");
    assert_eq!((record.end, record.ended_count), (DaemonEnd::Unknown, 0));
    assert_eq!(record.detected_at, record.finished_at);
    assert_eq!(last.warnings.len(), 1, "{:?}", last.warnings);
}

#[tokio::test]
async fn a_damaged_crash_record_is_set_aside() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = state_in(directory.path());
    fs::write(state.crash(), "no JSON").expect("written");
    let last = LastRun::recover(&state).await;
    assert!(last.record.is_none() && last.records().is_empty());
    let [warning] = last.warnings.as_slice() else { panic!("{:?}", last.warnings) };
    let aside = warning.rsplit_once("it was set aside as ").expect("says where").1;
    assert_eq!(fs::read_to_string(aside).expect("readable"), "no JSON");
    assert!(!state.crash().exists());
}

/// A start goes on, and says what it could not do.
#[tokio::test]
async fn a_state_directory_that_can_not_be_used_is_a_warning() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let state = state_in(file.path());
    let last = LastRun::recover(&state).await;
    assert!(last.warnings[0].contains("it can't be set aside"), "{:?}", last.warnings);
    assert!(last.warnings[1].contains("were not killed"), "{:?}", last.warnings);

    let directory = tempfile::tempdir().expect("a temporary directory");
    let state = state_in(directory.path());
    // Directories that are not empty can be neither replaced nor removed.
    for file in [state.last_shutdown(), state.crash()] {
        fs::create_dir_all(file.join("obstacle")).expect("made");
    }
    run_file(run(), this_boot()).write(&state.run_file()).expect("written");
    let mut last = LastRun::recover(&state).await;
    assert!(
        last.warnings.iter().any(|it| it.contains("can't write how the last run ended")),
        "{:?}",
        last.warnings
    );
    fs::create_dir_all(state.crash().join("obstacle")).expect("made");
    last.remove_crash_record(&state);
    let warning = last.warnings.last().expect("a warning");
    assert!(warning.contains("which will be reported again"), "{warning}");
}
