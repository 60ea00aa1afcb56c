//! Writes records as rows.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::database::{Journal, JournalError};
use super::entries::{KeptSession, ProcessEnded, ProcessStarted, Record, Restarted, RunStarted};
use crate::exit_status::ExitStatus;
use crate::ids::WorkerName;
use crate::outcome::ShutdownReport;

impl Journal {
    /// Stores one record.
    pub fn record(&self, record: &Record) -> Result<(), JournalError> {
        write(&self.connection, record).map_err(|source| self.sql_error(source))
    }

    /// Stores several records in one transaction: all of them or none.
    pub fn record_all(&mut self, records: &[Record]) -> Result<(), JournalError> {
        write_all(&mut self.connection, records).map_err(|source| self.sql_error(source))
    }
}

fn write_all(connection: &mut Connection, records: &[Record]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for record in records {
        write(&transaction, record)?;
    }
    transaction.commit()
}

fn write(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    match record {
        Record::RunStarted(entry) => run_started(connection, "REPLACE", entry),
        Record::RunKnown(entry) => run_started(connection, "IGNORE", entry),
        Record::ProcessStarted(entry) => process_started(connection, entry),
        Record::ProcessEnded(entry) => process_ended(connection, entry),
        Record::Restarted(entry) => restarted(connection, entry),
        Record::Report(report) => reported(connection, report),
        Record::SessionKept(session) => session_kept(connection, session),
        Record::SessionEnded { worker, id } => session_ended(connection, worker, id),
    }
}

/// `on_conflict` is the conflict clause of SQLite: `REPLACE` or `IGNORE`.
fn run_started(connection: &Connection, on_conflict: &str, entry: &RunStarted) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR {on_conflict} INTO runs (run, pid, version, config, started_at) VALUES (?1, ?2, ?3, ?4, ?5)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        entry.run.to_string(),
        entry.pid.get(),
        entry.version,
        entry.config,
        micros(entry.started_at),
    ])?;
    Ok(())
}

fn process_started(connection: &Connection, entry: &ProcessStarted) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO processes (run, worker, pid, start_time, pgid, port, started_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.prepare_cached(sql)?.execute(params![
        entry.run.to_string(),
        entry.worker.as_str(),
        entry.pid.get(),
        entry.start_time.0.cast_signed(),
        entry.pgid.get(),
        entry.port.get(),
        micros(entry.started_at),
    ])?;
    Ok(())
}

fn process_ended(connection: &Connection, entry: &ProcessEnded) -> rusqlite::Result<()> {
    let (code, signal) = match entry.exit {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let sql = "UPDATE processes SET ended_at = ?4, exit_code = ?5, exit_signal = ?6
               WHERE run = ?1 AND pid = ?2 AND start_time = ?3";
    connection.prepare_cached(sql)?.execute(params![
        entry.run.to_string(),
        entry.pid.get(),
        entry.start_time.0.cast_signed(),
        micros(entry.ended_at),
        code,
        signal,
    ])?;
    Ok(())
}

fn restarted(connection: &Connection, entry: &Restarted) -> rusqlite::Result<()> {
    let sql = "INSERT INTO restarts (run, worker, at, reason) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(sql)?.execute(params![
        entry.run.to_string(),
        entry.worker.as_str(),
        micros(entry.at),
        entry.reason,
    ])?;
    Ok(())
}

fn reported(connection: &Connection, report: &ShutdownReport) -> rusqlite::Result<()> {
    let json = serde_json::to_string(report)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let sql = "INSERT OR REPLACE INTO reports (run, finished_at, duration_ms, reason, exit_code, report)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    connection.prepare_cached(sql)?.execute(params![
        report.run.to_string(),
        micros(report.finished_at),
        i64::try_from(report.duration_ms).unwrap_or(i64::MAX),
        report.reason,
        report.exit_code,
        json,
    ])?;
    Ok(())
}

fn session_kept(connection: &Connection, entry: &KeptSession) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO sessions (worker, id, used_at, session) VALUES (?1, ?2, ?3, ?4)";
    let KeptSession { worker, id, used_at, session } = entry;
    connection.prepare_cached(sql)?.execute(params![worker.as_str(), id, micros(*used_at), session])?;
    Ok(())
}

fn session_ended(connection: &Connection, worker: &WorkerName, id: &str) -> rusqlite::Result<()> {
    let sql = "DELETE FROM sessions WHERE worker = ?1 AND id = ?2";
    connection.prepare_cached(sql)?.execute(params![worker.as_str(), id])?;
    Ok(())
}

fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}
