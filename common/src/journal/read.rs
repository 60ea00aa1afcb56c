//! Rows become history and reports.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row};

use super::{HistoryRow, Journal, JournalError, KeptSession};
use crate::ids::{Pid, RunId};
use crate::outcome::ShutdownReport;

pub(super) fn history(journal: &Journal, limit: u32) -> Result<Vec<HistoryRow>, JournalError> {
    let sql = "SELECT runs.run, runs.pid, runs.version, runs.config, runs.started_at,
                      reports.finished_at, reports.reason, reports.exit_code, reports.duration_ms,
                      (SELECT count(DISTINCT worker) FROM processes WHERE processes.run = runs.run),
                      (SELECT count(*) FROM restarts WHERE restarts.run = runs.run)
               FROM runs LEFT JOIN reports ON reports.run = runs.run
               ORDER BY runs.started_at DESC, runs.rowid DESC LIMIT ?1";
    let select = || {
        let mut statement = journal.connection.prepare(sql)?;
        let rows = statement.query_map([limit], |row| Ok((row.get::<_, String>(0)?, history_row(row)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let rows = select().map_err(|source| journal.failed(source))?;
    rows.into_iter()
        .map(|(run, row)| row.ok_or_else(|| unreadable(journal, run, "line in the history")))
        .collect()
}

/// `None` if a value is not what this program writes.
fn history_row(row: &Row) -> rusqlite::Result<Option<HistoryRow>> {
    let ended: Option<i64> = row.get(5)?;
    let (Ok(run), Some(pid), Ok(started_at), Ok(ended_at)) = (
        row.get::<_, String>(0)?.parse::<RunId>(),
        Pid::new(row.get(1)?),
        Timestamp::from_microsecond(row.get(4)?),
        ended.map(Timestamp::from_microsecond).transpose(),
    ) else {
        return Ok(None);
    };
    Ok(Some(HistoryRow {
        run,
        pid,
        version: row.get(2)?,
        config: row.get(3)?,
        started_at,
        ended_at,
        reason: row.get(6)?,
        exit_code: row.get(7)?,
        shutdown_ms: row.get::<_, Option<i64>>(8)?.map(i64::unsigned_abs),
        workers: row.get(9)?,
        restarts: row.get(10)?,
    }))
}

pub(super) fn report(journal: &Journal, run: Option<RunId>) -> Result<Option<ShutdownReport>, JournalError> {
    let sql =
        "SELECT run, report FROM reports WHERE ?1 IS NULL OR run = ?1 ORDER BY finished_at DESC LIMIT 1";
    let found: Option<(String, String)> = journal
        .connection
        .query_row(sql, [run.map(|run| run.to_string())], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(|source| journal.failed(source))?;
    found
        .map(|(run, json)| serde_json::from_str(&json).map_err(|_| unreadable(journal, run, "report")))
        .transpose()
}

/// What can't be understood is left out: it costs a client its session, and no more.
pub(super) fn sessions(journal: &Journal) -> Result<Vec<KeptSession>, JournalError> {
    let select = || {
        let mut statement =
            journal.connection.prepare("SELECT worker, id, used_at, session FROM sessions")?;
        let rows = statement.query_map((), |row| {
            let (worker, used_at) = (row.get::<_, String>(0)?.parse(), row.get(2)?);
            let (Ok(worker), Ok(used_at)) = (worker, Timestamp::from_microsecond(used_at)) else {
                return Ok(None);
            };
            Ok(Some(KeptSession { worker, id: row.get(1)?, used_at, session: row.get(3)? }))
        })?;
        rows.filter_map(Result::transpose).collect::<rusqlite::Result<Vec<_>>>()
    };
    select().map_err(|source| journal.failed(source))
}

fn unreadable(journal: &Journal, run: String, what: &'static str) -> JournalError {
    JournalError::Entry { path: journal.path.clone(), run, what }
}
