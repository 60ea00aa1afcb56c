//! Tests with real database files.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::exit_status::ExitStatus;
use crate::ids::{Pgid, Pid, Port, RunId, RunTag};
use crate::os::Backend;
use crate::os::process::StartTime;
use crate::outcome::{ClientsReport, OwnReport, REPORT_SCHEMA, ShutdownReport};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state").join("journal.sqlite3")
    }

    fn open(&self) -> Journal {
        let opened = Journal::open(&self.path()).expect("opened");
        assert_eq!(opened.warning, None);
        opened.journal
    }

    /// The files in the directory of the journal, sorted.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("state")).expect("readable");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn run(days_ago: i64, tag: u32) -> RunId {
    let began = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * days_ago)).expect("in range");
    RunId::new(began, RunTag(tag))
}

fn started(run: RunId) -> Record {
    Record::RunStarted(RunStarted {
        run,
        pid: Pid::current(),
        version: "0.1.0".to_owned(),
        config: Some("/c.toml".to_owned()),
        started_at: run.began(),
    })
}

fn process(run: RunId, worker: &str, start: u64) -> Record {
    Record::ProcessStarted(ProcessStarted {
        run,
        worker: worker.parse().expect("a name"),
        pid: Pid::current(),
        start_time: StartTime(start),
        pgid: Pgid::led_by(Pid::current()),
        port: Port::new(8081).expect("a port"),
        started_at: run.began(),
    })
}

fn report(run: RunId, exit_code: u8) -> ShutdownReport {
    ShutdownReport {
        schema: REPORT_SCHEMA.to_owned(),
        run,
        reason: "manual".to_owned(),
        started_at: run.began(),
        finished_at: run.began(),
        duration_ms: 42,
        exit_code,
        backend: Backend::Linux,
        containment: None,
        proof: None,
        phases: vec![],
        workers: vec![],
        clients: ClientsReport::default(),
        ports: vec![],
        resources: vec![],
        own: OwnReport::default(),
        findings: vec![],
    }
}

/// R-LOG-1: the data of `history` and `report`.
#[test]
fn a_run_is_read_as_it_was_written() {
    let place = Place::new();
    let first = run(1, 1);
    let second = run(0, 2);
    let mut journal = place.open();
    let restarted = Restarted {
        run: first,
        worker: "a".parse().expect("a name"),
        at: first.began(),
        reason: "exit 1".to_owned(),
    };
    let ended = ProcessEnded {
        run: first,
        pid: Pid::current(),
        start_time: StartTime(u64::MAX),
        ended_at: first.began(),
        exit: Some(ExitStatus::Signal(9)),
    };
    let records = [
        started(first),
        process(first, "a", u64::MAX),
        Record::ProcessEnded(ended),
        Record::Restarted(restarted),
        process(first, "a", 2),
        process(first, "b", 3),
        Record::Report(Box::new(report(first, 3))),
    ];
    journal.record_all(&records).expect("written");
    journal.record(&started(second)).expect("written");
    journal.close().expect("closed");

    let journal = Journal::open_read_only(&place.path()).expect("readable");
    let rows = journal.history(10).expect("readable");
    assert_eq!(rows.iter().map(|row| row.run).collect::<Vec<_>>(), [second, first]);
    assert_eq!((rows[0].exit_code, rows[0].ended_at), (None, None));
    let row = &rows[1];
    assert_eq!((row.workers, row.restarts, row.exit_code, row.shutdown_ms), (2, 1, Some(3), Some(42)));
    assert_eq!(journal.history(1).expect("readable").len(), 1);
    assert_eq!(journal.report(None).expect("readable"), Some(report(first, 3)));
    assert_eq!(journal.report(Some(first)).expect("readable"), Some(report(first, 3)));
    assert_eq!(journal.report(Some(second)).expect("readable"), None);
}

/// Neither a closed journal nor a reader leaves further files.
#[test]
fn a_closed_journal_is_one_file() {
    let place = Place::new();
    let journal = place.open();
    journal.record(&started(run(0, 1))).expect("written");
    journal.close().expect("closed");
    assert_eq!(place.files(), ["journal.sqlite3"]);
    let reader = Journal::open_read_only(&place.path()).expect("readable");
    assert_eq!(reader.history(9).expect("readable").len(), 1);
    assert_eq!(place.files(), ["journal.sqlite3"]);
}

#[test]
fn a_reader_sees_the_entries_of_an_open_writer() {
    let place = Place::new();
    let writer = place.open();
    writer.record(&started(run(0, 1))).expect("written");
    let reader = Journal::open_read_only(&place.path()).expect("readable");
    assert_eq!(reader.history(9).expect("readable").len(), 1);
    writer.record(&started(run(0, 2))).expect("a reader does not block the writer");
    assert_eq!(reader.history(9).expect("readable").len(), 2);
    writer.close().expect("a reader does not block closing");
}

#[test]
fn a_crash_loses_no_entries() {
    let place = Place::new();
    let writer = place.open();
    writer.record(&started(run(0, 1))).expect("written");
    // Neither closed nor dropped, so that the write-ahead log remains, as after SIGKILL.
    std::mem::forget(writer);
    let reader = Journal::open_read_only(&place.path()).expect("readable");
    assert_eq!(reader.history(9).expect("readable").len(), 1);
    assert_eq!(place.open().history(9).expect("readable").len(), 1);
}

#[test]
fn a_missing_journal_is_an_error_of_its_own() {
    let place = Place::new();
    let error = Journal::open_read_only(&place.path()).expect_err("missing");
    assert!(matches!(error, JournalError::Missing(_)), "{error}");
}

fn set_aside(place: &Place) -> (Journal, PathBuf) {
    let Opened { journal, warning } = Journal::open(&place.path()).expect("a new journal");
    let warning = warning.expect("a warning");
    let aside = place.files().into_iter().find(|name| name.contains(".damaged-") && !name.ends_with("-wal"));
    let aside = place.path().with_file_name(aside.expect("a file that was set aside"));
    assert!(warning.contains(&aside.display().to_string()), "{warning}");
    (journal, aside)
}

/// R-LOG-1.
#[test]
fn a_damaged_journal_is_set_aside() {
    let place = Place::new();
    fs::create_dir_all(place.path().parent().expect("a parent")).expect("made");
    let damage = "this is not a database; it is repeated to fill more than the header".repeat(40);
    fs::write(place.path(), &damage).expect("written");
    let (journal, aside) = set_aside(&place);
    assert_eq!(fs::read_to_string(aside).expect("kept"), damage);
    journal.record(&started(run(0, 1))).expect("the new journal is writable");
}

#[test]
fn damage_in_the_middle_and_a_truncated_file_are_detected() {
    let overwrite: fn(&mut Vec<u8>) = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle - 8192..middle + 8192].fill(0x5a);
    };
    let truncate: fn(&mut Vec<u8>) = |bytes| bytes.truncate(bytes.len() / 2);
    for damage in [overwrite, truncate] {
        let place = Place::new();
        let mut journal = place.open();
        let records: Vec<_> = (0..2000).map(|number| process(run(0, number), "a", 1)).collect();
        journal.record_all(&records).expect("written");
        journal.close().expect("closed");
        let mut bytes = fs::read(place.path()).expect("readable");
        damage(&mut bytes);
        fs::write(place.path(), bytes).expect("written");
        set_aside(&place);
    }
}

#[test]
fn a_locked_journal_is_set_aside() {
    let place = Place::new();
    place.open().close().expect("closed");
    let holder = rusqlite::Connection::open(place.path()).expect("opened");
    holder.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    set_aside(&place);
}

#[test]
fn a_newer_journal_and_another_programs_are_set_aside() {
    for change in ["PRAGMA user_version = 99", "PRAGMA application_id = 7"] {
        let place = Place::new();
        place.open().close().expect("closed");
        let other = rusqlite::Connection::open(place.path()).expect("opened");
        other.execute_batch(change).expect("changed");
        drop(other);
        set_aside(&place);
    }
}

/// R-LOG-2.
#[test]
fn entries_are_kept_for_90_days() {
    let place = Place::new();
    let mut journal = place.open();
    for (number, days) in [(1, 91), (2, 89)] {
        let run = run(days, number);
        let all = [started(run), process(run, "a", 1), Record::Report(Box::new(report(run, 0)))];
        journal.record_all(&all).expect("written");
    }
    journal.close().expect("closed");
    let journal = place.open();
    let rows = journal.history(10).expect("readable");
    assert_eq!(rows.iter().map(|row| row.run.tag()).collect::<Vec<_>>(), [RunTag(2)]);
    assert_eq!(journal.report(Some(run(91, 1))).expect("readable"), None);
}

#[test]
fn a_directory_that_can_not_be_written_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let error = Journal::open(&file.join("state/journal.sqlite3")).expect_err("no directory");
    assert!(error.to_string().contains("journal.sqlite3"), "{error}");
    let error = Journal::open(Path::new("/proc/journal.sqlite3")).expect_err("no writing there");
    assert!(error.to_string().contains("/proc"), "{error}");
}

fn kept(worker: &str, id: &str, hours_ago: i64) -> KeptSession {
    let used_at = Timestamp::now().checked_sub(SignedDuration::from_hours(hours_ago)).expect("in range");
    // The database keeps microseconds.
    let used_at = Timestamp::from_microsecond(used_at.as_microsecond()).expect("in range");
    KeptSession {
        worker: worker.parse().expect("a name"),
        id: id.to_owned(),
        used_at,
        session: "{}".to_owned(),
    }
}

/// R-CLIENT-3: for 24 h, unless the session has ended.
#[test]
fn sessions_outlive_the_daemon_for_a_day() {
    let place = Place::new();
    let journal = place.open();
    let young = kept("a", "young", 23);
    let old = kept("a", "old", 25);
    let ended = kept("b", "ended", 0);
    for session in [&young, &old, &ended] {
        journal.record(&Record::SessionKept(session.clone())).expect("recorded");
    }
    let changed = KeptSession { session: "{\"later\":1}".to_owned(), ..young.clone() };
    journal.record(&Record::SessionKept(changed.clone())).expect("recorded");
    let end = Record::SessionEnded { worker: ended.worker.clone(), id: ended.id.clone() };
    journal.record(&end).expect("recorded");
    journal.close().expect("closed");
    assert_eq!(place.open().sessions().expect("readable"), [changed]);
}
