use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::exit_code;
use crate::exit_status::ExitStatus;
use crate::finding::FindingKind;
use crate::ids::{Pid, RunId, RunTag};
use crate::os::Backend;
use crate::paths::StateDir;

fn leftover(pid: i32, worker: Option<&str>) -> LeftoverProcess {
    let worker = worker.map(|name| name.parse().expect("a name"));
    LeftoverProcess { pid: Pid::new(pid).expect("positive"), command: format!("sleep {pid}"), worker }
}

fn sample(end: DaemonEnd) -> CrashRecord {
    let run = RunId::new(Timestamp::UNIX_EPOCH, RunTag(0x3f9a_2c77));
    CrashRecord {
        run,
        version: "0.1.0".to_owned(),
        cleaned_up_by: CleanedUpBy::Guardian,
        daemon: Pid::new(41).expect("positive"),
        end,
        detected_at: run.began() + SignedDuration::from_secs(60),
        finished_at: run.began() + SignedDuration::from_millis(60_020),
        backend: Backend::Linux,
        proved: true,
        ended_count: 3,
        ended: vec![leftover(42, Some("alpha")), leftover(43, None)],
        left: vec![],
        preexisting: vec![leftover(7, None)],
        damaged_lines: 0,
    }
}

/// R-CONT-5: `mcpctl` and the next start read the record as it was written.
#[test]
fn a_record_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let state = StateDir::new(dir.path());
    assert!(CrashRecord::read(&state.crash()).expect("absence is no error").is_none());
    let record = sample(DaemonEnd::Died(ExitStatus::Signal(9)));
    record.publish(&state).expect("written");
    assert_eq!(CrashRecord::read(&state.crash()).expect("read"), Some(record.clone()));
    let last = last_shutdown(&state).expect("a report");
    assert_eq!((last.run, last.exit_code, last.reason.as_str()), (record.run, 101, describe::DAEMON_DIED));
    assert_eq!(exit_code::of(&last.findings), 101);
}

/// R-CONT-5: the code of a crash is 101 and that of an overrun 102, independent of other findings.
#[test]
fn the_exit_code_depends_on_how_the_daemon_ended() {
    let mut record = sample(DaemonEnd::Died(ExitStatus::Signal(9)));
    assert_eq!(record.exit_code(), 101);
    record.left = vec![leftover(44, None)];
    assert_eq!(record.exit_code(), 101);
    assert_eq!(CrashRecord { end: DaemonEnd::Overrun, ..record.clone() }.exit_code(), 102);
    assert_eq!(CrashRecord { end: DaemonEnd::Unknown, ..record }.exit_code(), 101);
}

/// R-CONT-5: processes left after a complete shutdown raise the codes 0 to 4 to 5, and no others.
#[test]
fn leftover_processes_raise_codes_below_five_to_five() {
    for code in 0..=255 {
        let record = sample(DaemonEnd::Completed(code));
        assert_eq!(record.exit_code(), code.max(5), "{code}");
        let nothing = CrashRecord { ended: vec![], ended_count: 0, ..record };
        assert_eq!(nothing.exit_code(), code);
    }
}

/// The findings are added to the daemon's own report; adding them twice changes nothing.
#[test]
fn findings_are_added_to_a_report_only_once() {
    let mut written = sample(DaemonEnd::Died(ExitStatus::Code(0))).report(None);
    written.findings.clear();
    written.exit_code = 0;
    written.reason = "manual".to_owned();
    let record = sample(DaemonEnd::Completed(0));
    let once = record.report(Some(written));
    assert_eq!((once.exit_code, once.reason.as_str()), (5, "manual"));
    assert_eq!(once.findings.iter().filter(|finding| finding.kind == FindingKind::ProcessLeft).count(), 3);
    assert_eq!(record.report(Some(once.clone())), once);
}

proptest! {
    /// Damaged files cause no panic, and the undamaged lines are read.
    #[test]
    fn a_damaged_line_does_not_affect_others(at in 0usize..3000, byte: u8, noise in proptest::collection::vec(any::<u8>(), 0..40)) {
        let whole = lines::write(&sample(DaemonEnd::Overrun)).into_bytes();
        let mut bytes = whole.clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.extend(&noise);
        let first_line = whole.iter().position(|byte| *byte == b'\n').expect("lines");
        let parsed = CrashRecord::parse(&bytes);
        if at > first_line {
            let parsed = parsed.expect("the first line is undamaged");
            prop_assert!(parsed.ended.len() + parsed.preexisting.len() >= 1);
        }
        let _ = CrashRecord::parse(&noise);
    }
}
