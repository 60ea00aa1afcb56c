//! Reads the history, reports and sessions.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row};

use super::database::{Journal, JournalError};
use super::entries::{HistoryRow, KeptSession};
use crate::ids::{Pid, RunId};
use crate::outcome::ShutdownReport;

const HISTORY: &str = "SELECT runs.run, runs.pid, runs.version, runs.config, runs.started_at,
            reports.finished_at, reports.reason, reports.exit_code, reports.duration_ms,
            (SELECT count(DISTINCT worker) FROM processes WHERE processes.run = runs.run),
            (SELECT count(*) FROM restarts WHERE restarts.run = runs.run)
     FROM runs LEFT JOIN reports ON reports.run = runs.run
     ORDER BY runs.started_at DESC, runs.rowid DESC LIMIT ?1";

const REPORT: &str =
    "SELECT run, report FROM reports WHERE ?1 IS NULL OR run = ?1 ORDER BY finished_at DESC LIMIT 1";

const SESSIONS: &str = "SELECT worker, id, used_at, session FROM sessions";

impl Journal {
    /// The latest runs, the newest first.
    pub fn history(&self, limit: u32) -> Result<Vec<HistoryRow>, JournalError> {
        let rows = self.select_history(limit).map_err(|source| self.sql_error(source))?;
        rows.into_iter()
            .map(|(run, row)| row.ok_or_else(|| self.entry_error(run, "line in the history")))
            .collect()
    }

    /// The report of this run, or the latest report; `None` if there is none.
    pub fn report(&self, run: Option<RunId>) -> Result<Option<ShutdownReport>, JournalError> {
        let found: Option<(String, String)> = self
            .connection
            .query_row(REPORT, [run.map(|run| run.to_string())], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(|source| self.sql_error(source))?;
        found
            .map(|(run, json)| serde_json::from_str(&json).map_err(|_| self.entry_error(run, "report")))
            .transpose()
    }

    /// The stored sessions; unused ones are deleted [`SESSIONS_KEPT`](super::SESSIONS_KEPT) after their last
    /// use. A session that can't be parsed is skipped: its client has to start a new one.
    pub fn sessions(&self) -> Result<Vec<KeptSession>, JournalError> {
        self.select_sessions().map_err(|source| self.sql_error(source))
    }

    /// The run of every row as text, and the row; `None` if a value can't be parsed.
    fn select_history(&self, limit: u32) -> rusqlite::Result<Vec<(String, Option<HistoryRow>)>> {
        let mut statement = self.connection.prepare(HISTORY)?;
        let rows = statement.query_map([limit], |row| Ok((row.get(0)?, history_row(row)?)))?;
        rows.collect()
    }

    fn select_sessions(&self) -> rusqlite::Result<Vec<KeptSession>> {
        let mut statement = self.connection.prepare(SESSIONS)?;
        let rows = statement.query_map((), session_row)?;
        rows.filter_map(Result::transpose).collect()
    }

    fn entry_error(&self, run: String, what: &'static str) -> JournalError {
        JournalError::Entry { path: self.path.clone(), run, what }
    }
}

/// `None` if a value can't be parsed.
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

/// `None` if a value can't be parsed.
fn session_row(row: &Row) -> rusqlite::Result<Option<KeptSession>> {
    let (Ok(worker), Ok(used_at)) =
        (row.get::<_, String>(0)?.parse(), Timestamp::from_microsecond(row.get(2)?))
    else {
        return Ok(None);
    };
    Ok(Some(KeptSession { worker, id: row.get(1)?, used_at, session: row.get(3)? }))
}
