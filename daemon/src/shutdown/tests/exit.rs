//! The last phase: what it closes, and what it says about it.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use mcpd_common::outcome::FindingKind;
use mcpd_common::paths::StateDir;
use tokio_util::sync::CancellationToken;

use super::shutdown_run::{published, shut_down_one};
use crate::journal::JournalHandle;
use crate::logging::console::Console;
use crate::progress::Progress;
use crate::shutdown::exit::Exit;
use crate::shutdown::request::AfterShutdown;
use crate::supervisor::fake::behaviour::Behaviour;

fn exit(state: &Path, console: Option<Console>) -> Exit {
    Exit {
        state: StateDir::new(state),
        journal: JournalHandle::none(),
        socket: state.join("control.sock"),
        progress: Progress::new(),
        stop_service: CancellationToken::new(),
        service: tokio::spawn(async {}),
        console,
    }
}

/// R-LOG-7: the report says that the console misses lines.
#[tokio::test(start_paused = true)]
async fn lines_that_the_console_lost_are_counted_in_the_report() {
    let report = shut_down_one(Behaviour::exits_on_request()).await.report;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let console = Console::start(write.as_fd()).expect("started");
    drop(write);
    // More than the pipe and the queue hold.
    for _ in 0..10_000 {
        console.write(&[b'x'; 1024]);
    }
    let lost = console.lost();
    let code = exit(directory.path(), Some(console)).finish(report, AfterShutdown::Exit).await;
    assert_eq!(code, 0, "it is information");
    let written = std::fs::read(StateDir::new(directory.path()).last_shutdown()).expect("written");
    let report: mcpd_common::outcome::ShutdownReport = serde_json::from_slice(&written).expect("a report");
    let detail =
        &report.findings.iter().find(|finding| finding.subject == "console").expect("a finding").detail;
    assert!(detail.starts_with(&format!("{lost} lines were lost")), "{detail}");
    let _ = read.read(&mut [0; 1]);
}

/// Nothing of it keeps the daemon from exiting, and a client that follows the shutdown gets the report.
#[tokio::test(start_paused = true)]
async fn files_that_can_not_be_written_or_removed_do_not_delay_the_exit() {
    let report = shut_down_one(Behaviour::exits_on_request()).await.report;
    let exit = exit(Path::new("/dev/null"), None);
    let progress = exit.progress.clone();
    let code = exit.finish(report, AfterShutdown::Exit).await;
    assert_eq!(code, 0);
    let last = published(&progress).await.pop().expect("events");
    let mcpd_common::event::EventKind::Finished { report } = &last.kind else { panic!("{last:?}") };
    assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::Information));
}
