//! Opens and closes a journal: renames an unusable one, migrates the schema, deletes old entries.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::database::{Journal, JournalError, KEPT_DAYS, Opened, SESSIONS_KEPT};
use crate::paths::durable;

/// The migrations: element N changes the schema from version N to N + 1.
const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

/// "mcpd" as `application_id` in the database header: distinguishes the journal from other databases.
const APPLICATION_ID: i64 = 0x6d63_7064;

/// How long to wait for a lock. Readers hold theirs for milliseconds; a longer one counts as stuck.
const BUSY_TIMEOUT: Duration = Duration::from_millis(1500);

/// The largest file, in bytes, that is checked completely when it is opened, which takes some milliseconds.
/// Of a larger file only the pages that opening reads are checked.
const MAX_FULL_CHECK: u64 = 4 << 20;

/// Suffixes of the files of a database in WAL mode; the database itself is the first one.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

impl Journal {
    /// Opens the journal for writing, and creates it if it does not exist. A journal that is damaged, locked
    /// or newer is renamed to `journal.sqlite3.damaged-TIME`, a new one is created, and the warning reports
    /// it. Entries older than [`KEPT_DAYS`] are deleted.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        let directory = path.parent().unwrap_or(Path::new("."));
        durable::make_directory(directory).map_err(|error| open_error(path, &error))?;
        let first = match open_checked(path) {
            Ok(journal) => return Ok(Opened { journal, warning: None }),
            Err(error) => error,
        };
        if !is_cured_by_renaming(&first) {
            return Err(first);
        }
        let aside = set_aside(path)
            .map_err(|error| open_error(path, &format!("{first}; can't rename it: {error}")))?;
        let warning = format!("{first}; it was set aside as {} and a new one created", aside.display());
        Ok(Opened { journal: open_checked(path)?, warning: Some(warning) })
    }

    /// Deletes entries that are older than [`KEPT_DAYS`].
    pub fn prune(&mut self) -> Result<(), JournalError> {
        let Self { connection, path, .. } = self;
        prune(connection, Timestamp::now()).map_err(|source| sql_error(path, source))
    }

    /// Whether its file was removed or replaced: what is written to it could never be read.
    pub fn is_removed(&self) -> bool {
        inode(&self.path) != self.inode
    }

    /// Opens the journal for reading, with or without a daemon that writes to it. No file is changed or
    /// created.
    pub fn open_read_only(path: &Path) -> Result<Self, JournalError> {
        if !path.exists() {
            return Err(JournalError::Missing(path.to_owned()));
        }
        let (connection, version) = connect_read_only(path).map_err(|source| sql_error(path, source))?;
        if version == 0 {
            return Err(JournalError::Missing(path.to_owned()));
        }
        check_version(path, version)?;
        Ok(Self { connection, path: path.to_owned(), inode: inode(path) })
    }

    /// Merges the write-ahead log into the database and closes it. Afterwards the journal is a single file.
    pub fn close(self) -> Result<(), JournalError> {
        let Self { connection, path, .. } = self;
        merge_write_ahead_log(&connection, &path)?;
        connection.close().map_err(|(_, source)| JournalError::Sql { path, source })
    }
}

/// Returns the connection and the version of the schema. Of a journal in WAL mode SQLite would create a
/// `-wal` and a `-shm` file even for a reader; a closed journal is in DELETE mode and has neither.
fn connect_read_only(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let version = user_version(&connection)?;
    Ok((connection, version))
}

/// Also switches from WAL mode to DELETE mode, so that a reader of the closed journal writes no files.
fn merge_write_ahead_log(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let blocked: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))
        .map_err(|source| sql_error(path, source))?;
    if blocked != 0 {
        return Err(JournalError::Busy(path.to_owned()));
    }
    // A reader that opens the journal at this moment keeps it in WAL mode, which does no harm.
    let _ = connection.query_row("PRAGMA journal_mode = DELETE", (), |_| Ok(()));
    Ok(())
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|file| file.ino())
}

fn open_checked(path: &Path) -> Result<Journal, JournalError> {
    let small = fs::metadata(path).is_ok_and(|file| file.len() <= MAX_FULL_CHECK);
    let mut connection = Connection::open(path).map_err(|source| sql_error(path, source))?;
    let version = prepare(&connection, small).map_err(|source| sql_error(path, source))?;
    check_version(path, version)?;
    migrate(&mut connection, version).map_err(|source| sql_error(path, source))?;
    prune(&mut connection, Timestamp::now()).map_err(|source| sql_error(path, source))?;
    Ok(Journal { connection, path: path.to_owned(), inode: inode(path) })
}

/// Configures the connection and returns the version of the schema.
fn prepare(connection: &Connection, check_whole: bool) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let _: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    // In WAL mode NORMAL is enough: a crash of the machine may lose the last entries, but does not damage the
    // file.
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    let application: i64 = connection.query_row("PRAGMA application_id", (), |row| row.get(0))?;
    let version = user_version(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(damaged("it is the database of another program"));
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

fn check_version(path: &Path, found: i64) -> Result<(), JournalError> {
    let known = MIGRATIONS.len() as i64;
    if (0..=known).contains(&found) {
        Ok(())
    } else {
        Err(JournalError::Newer { path: path.to_owned(), found, known })
    }
}

fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let done = usize::try_from(from).expect("`check_version` allows no negative version");
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
    // A run that started more than 90 days ago and ended recently has a report, and stays.
    transaction.execute(
        "DELETE FROM runs WHERE started_at < ?1 AND run NOT IN (SELECT run FROM reports)",
        [before],
    )?;
    let used_before = now.saturating_sub(SESSIONS_KEPT).map_or(0, Timestamp::as_microsecond);
    transaction.execute("DELETE FROM sessions WHERE used_at < ?1", [used_before])?;
    transaction.commit()
}

/// Renaming helps if the file itself is the problem, but not for a lack of permission or a full disk.
fn is_cured_by_renaming(error: &JournalError) -> bool {
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
    let aside = with_suffix(path, &format!(".damaged-{time}"));
    for suffix in SUFFIXES {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if suffix.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn damaged(what: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(what.to_owned()))
}

fn sql_error(path: &Path, source: rusqlite::Error) -> JournalError {
    JournalError::Sql { path: path.to_owned(), source }
}

fn open_error(path: &Path, reason: &dyn std::fmt::Display) -> JournalError {
    JournalError::Open { path: path.to_owned(), reason: reason.to_string() }
}
