//! `mcpctl history`: past runs, from the journal.

use std::path::Path;

use mcpd_common::crash::CrashRecord;
use mcpd_common::exit_code::program;
use mcpd_common::journal::{HISTORY_SCHEMA, HistoryRow, Journal, JournalError};
use serde::Serialize;

use super::shutdown::summary;
use crate::args::History;
use crate::color::Tone;
use crate::context::Context;
use crate::document::Document;
use crate::failure::{Failure, SUCCESS};
use crate::formatting::{Clock, duration};
use crate::table::{Cell, Column, Table, cell, maybe};

const ACTION: &str = "show the history";

#[derive(Serialize)]
struct Runs {
    runs: Vec<HistoryRow>,
}

/// The latest run comes first.
pub async fn run(context: &mut Context, args: History) -> Result<u8, Failure> {
    let state = context.state_dir().await;
    let mut rows =
        match Journal::open_read_only(&state.journal()).and_then(|journal| journal.history(args.limit)) {
            Ok(rows) => rows,
            Err(JournalError::Missing(_)) => Vec::new(),
            Err(error) => return Err(journal_unreadable(ACTION, &error)),
        };
    // The end of a crashed run enters the journal only at the next start of mcpd.
    if let Ok(Some(crash)) = CrashRecord::read(&state.crash()) {
        rows.iter_mut().for_each(|row| crash.complete(row));
    }
    if context.out.is_json() {
        context.out.json_with_schema(HISTORY_SCHEMA, &Runs { runs: rows });
    } else {
        let mut doc = context.out.document();
        render(&mut doc, &rows, &context.clock(), &state.journal());
        context.out.print(doc);
    }
    Ok(SUCCESS)
}

pub fn journal_unreadable(action: &str, error: &JournalError) -> Failure {
    let next = "mcpd sets a damaged journal aside at its next start; `mcpctl report` shows the last shutdown";
    Failure::new(program::UNAVAILABLE, action, error, next)
}

fn render(doc: &mut Document, rows: &[HistoryRow], clock: &Clock, journal: &Path) {
    if rows.is_empty() {
        let journal = journal.display();
        return doc.sentence(&format!("No run has been recorded in {journal}"), Tone::Dim);
    }
    let mut table = Table::new([
        Column::new("RUN"),
        Column::new("STARTED"),
        Column::new("ENDED").optional(3),
        Column::new("WORKERS").right().optional(4),
        Column::new("RESTARTS").right().optional(5),
        Column::new("REASON").cut(8).optional(1),
        Column::new("CODE").right(),
        Column::new("TOOK").right().optional(2),
        Column::new("VERSION").optional(6),
        Column::new("CONFIGURATION").cut(16).optional(7),
    ]);
    for row in rows {
        table.row([
            cell(row.run),
            cell(clock.date_time(row.started_at)),
            maybe(row.ended_at.map(|at| clock.date_time(at))),
            cell(row.workers),
            cell(row.restarts),
            maybe(row.reason.as_ref()),
            code(row),
            maybe(row.shutdown_ms.map(duration)),
            cell(&row.version),
            maybe(row.config.as_ref()),
        ]);
    }
    doc.table(&table);
}

fn code(row: &HistoryRow) -> Cell {
    let tone = row.exit_code.map_or(Tone::Dim, summary::tone);
    maybe(row.exit_code).tone(tone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Palette;
    use crate::test_data;

    fn shown(rows: &[HistoryRow], width: usize) -> String {
        let mut doc = Document::new(Palette::Plain, width);
        render(&mut doc, rows, &test_data::clock(), Path::new("/state/journal.sqlite3"));
        doc.into_text()
    }

    /// R-CLI-1, R-LOG-1.
    #[test]
    fn columns_are_dropped_at_80_columns_and_all_shown_at_200() {
        insta::assert_snapshot!(shown(&test_data::history(), 80), @r"
        RUN                        STARTED              REASON  CODE    TOOK
        20261122T140500Z-00000001  2026-11-22 14:05:00  -          -       -
        20261122T130501Z-3f9a2c77  2026-11-22 13:05:01  manual     3  35.0 s
        ");
        insta::assert_snapshot!(shown(&test_data::history(), 200), @r"
        RUN                        STARTED              ENDED                WORKERS  RESTARTS  REASON  CODE    TOOK  VERSION  CONFIGURATION
        20261122T140500Z-00000001  2026-11-22 14:05:00  -                          3         0  -          -       -  0.1.0    -
        20261122T130501Z-3f9a2c77  2026-11-22 13:05:01  2026-11-22 14:00:12        3         7  manual     3  35.0 s  0.1.0    /home/kim/.config/mcpd/config.toml
        ");
        assert_eq!(shown(&[], 80), "No run has been recorded in /state/journal.sqlite3\n");
    }
}
