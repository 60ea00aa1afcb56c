//! Opening, setting aside, migrating, pruning, closing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Journal, JournalError, KEPT_DAYS, Opened, SESSIONS_KEPT};
use crate::paths::durable;

/// The schema's steps: what brings version N to N + 1 stands at N.
const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// "mcpd" in the database's header: tells our file from another program's.
const APPLICATION_ID: i64 = 0x6d63_7064;

/// Readers are there for milliseconds; who holds the journal longer has locked it.
const BUSY: Duration = Duration::from_millis(1500);

/// Up to this size the whole file is checked at the start, which takes some milliseconds; in a
/// larger one only the pages that opening reads anyway.
const CHECKED_WHOLE: u64 = 4 << 20;

/// What SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["", "-wal", "-shm"];

pub(super) fn for_writing(path: &Path) -> Result<Opened, JournalError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    durable::make_directory(directory).map_err(|error| refused(path, &error))?;
    let first = match open_sound(path) {
        Ok(journal) => return Ok(Opened { journal, warning: None }),
        Err(error) => error,
    };
    if !is_worth_setting_aside(&first) {
        return Err(first);
    }
    let aside = set_aside(path).map_err(|error| refused(path, &format!("{first}; renaming it: {error}")))?;
    let warning = format!("{first}; it was set aside as {} and a new one begun", aside.display());
    Ok(Opened { journal: open_sound(path)?, warning: Some(warning) })
}

pub(super) fn for_reading(path: &Path) -> Result<Journal, JournalError> {
    if !path.exists() {
        return Err(JournalError::Missing(path.to_owned()));
    }
    // Of a journal in WAL mode SQLite would make companion files even for a reader; one that was
    // closed is in DELETE mode and has none (see `fold_in`).
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        let version = user_version(&connection)?;
        Ok((connection, version))
    };
    let (connection, version) = open().map_err(|source| sql(path, source))?;
    match version {
        0 => Err(JournalError::Missing(path.to_owned())),
        version => known(path, version).map(|()| Journal { connection, path: path.to_owned() }),
    }
}

/// Folds the write-ahead log in and leaves WAL mode, so that a reader of the closed journal need
/// not write anything.
pub(super) fn fold_in(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let blocked: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))
        .map_err(|source| sql(path, source))?;
    if blocked != 0 {
        return Err(JournalError::Busy(path.to_owned()));
    }
    // A reader that comes in this very moment keeps it in WAL mode, which harms nobody.
    let _ = connection.query_row("PRAGMA journal_mode = DELETE", (), |_| Ok(()));
    Ok(())
}

fn open_sound(path: &Path) -> Result<Journal, JournalError> {
    let small = fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_WHOLE);
    let mut connection = Connection::open(path).map_err(|source| sql(path, source))?;
    let version = prepare(&connection, small).map_err(|source| sql(path, source))?;
    known(path, version)?;
    migrate(&mut connection, version).map_err(|source| sql(path, source))?;
    prune(&mut connection, Timestamp::now()).map_err(|source| sql(path, source))?;
    Ok(Journal { connection, path: path.to_owned() })
}

/// Sets the connection up and returns the schema's version.
fn prepare(connection: &Connection, check_whole: bool) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY)?;
    let _: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    // In WAL mode a crash of the machine may cost the last entries, never the database.
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    let application: i64 = connection.query_row("PRAGMA application_id", (), |row| row.get(0))?;
    let version = user_version(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(damaged("it is another program's database"));
    }
    if check_whole {
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0))?;
        if verdict != "ok" {
            return Err(damaged(&verdict));
        }
    }
    Ok(version)
}

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

fn known(path: &Path, found: i64) -> Result<(), JournalError> {
    let known = MIGRATIONS.len() as i64;
    match (0..=known).contains(&found) {
        true => Ok(()),
        false => Err(JournalError::Newer { path: path.to_owned(), found, known }),
    }
}

fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(from).unwrap_or_default();
    if done == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}

fn prune(connection: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
    let before = now.saturating_sub(SignedDuration::from_hours(24 * KEPT_DAYS));
    let before = before.map_or(0, Timestamp::as_microsecond);
    let transaction = connection.transaction()?;
    transaction.execute("DELETE FROM processes WHERE started_at < ?1", [before])?;
    transaction.execute("DELETE FROM restarts WHERE at < ?1", [before])?;
    transaction.execute("DELETE FROM reports WHERE finished_at < ?1", [before])?;
    // A run of more than 90 days that ended yesterday is still worth a line.
    transaction.execute(
        "DELETE FROM runs WHERE started_at < ?1 AND run NOT IN (SELECT run FROM reports)",
        [before],
    )?;
    let used_before = now.saturating_sub(SESSIONS_KEPT).map_or(0, Timestamp::as_microsecond);
    transaction.execute("DELETE FROM sessions WHERE used_at < ?1", [used_before])?;
    transaction.commit()
}

/// A journal that can't be reached (no permission, a full disk) is left where it is.
fn is_worth_setting_aside(error: &JournalError) -> bool {
    match error {
        JournalError::Newer { .. } => true,
        JournalError::Sql { source, .. } => matches!(
            source.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::Unknown
                    | ErrorCode::SchemaChanged
                    | ErrorCode::TypeMismatch
            )
        ),
        _ => false,
    }
}

fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let aside = format!(".damaged-{time}");
    for companion in COMPANIONS {
        let from = with(companion);
        match fs::rename(&from, with(&format!("{aside}{companion}"))) {
            Err(error) if companion.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(with(&aside))
}

fn damaged(what: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what.to_owned()))
}

fn sql(path: &Path, source: rusqlite::Error) -> JournalError {
    JournalError::Sql { path: path.to_owned(), source }
}

fn refused(path: &Path, reason: &dyn std::fmt::Display) -> JournalError {
    JournalError::Open { path: path.to_owned(), reason: reason.to_string() }
}
