//! The file: a JSON object a line, so that a damaged line costs itself and no more.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CRASH_SCHEMA, CrashRecord, DaemonEnd, LeftoverProcess, NAMED, Witness};
use crate::ids::{Pid, RunId};
use crate::os::Backend;

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    Crash(Head),
    Ended(LeftoverProcess),
    Left(LeftoverProcess),
    Spared(LeftoverProcess),
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema: String,
    run: RunId,
    version: String,
    witness: Witness,
    daemon: Pid,
    end: DaemonEnd,
    noticed_at: Timestamp,
    finished_at: Timestamp,
    backend: Backend,
    proved: bool,
    ended_count: u64,
}

pub(super) fn write(record: &CrashRecord) -> String {
    let head = Line::Crash(Head {
        schema: CRASH_SCHEMA.to_owned(),
        run: record.run,
        version: record.version.clone(),
        witness: record.witness,
        daemon: record.daemon,
        end: record.end,
        noticed_at: record.noticed_at,
        finished_at: record.finished_at,
        backend: record.backend,
        proved: record.proved,
        ended_count: record.ended_count,
    });
    let ended = record.ended.iter().take(NAMED).cloned().map(Line::Ended);
    let left = record.left.iter().take(NAMED).cloned().map(Line::Left);
    let spared = record.spared.iter().take(NAMED).cloned().map(Line::Spared);
    let lines = std::iter::once(head).chain(ended).chain(left).chain(spared);
    // Plain data: what can't be said in JSON is not in it.
    lines.filter_map(|line| serde_json::to_string(&line).ok()).map(|line| line + "\n").collect()
}

pub(super) fn parse(bytes: &[u8]) -> Option<CrashRecord> {
    let (mut head, mut damaged_lines) = (None, 0);
    let (mut ended, mut left, mut spared) = (vec![], vec![], vec![]);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Line>(line) {
            Ok(Line::Crash(found)) if found.schema == CRASH_SCHEMA && head.is_none() => head = Some(found),
            Ok(Line::Ended(process)) if ended.len() < NAMED => ended.push(process),
            Ok(Line::Left(process)) if left.len() < NAMED => left.push(process),
            Ok(Line::Spared(process)) if spared.len() < NAMED => spared.push(process),
            Ok(_) | Err(_) => damaged_lines += 1,
        }
    }
    let Head {
        run,
        version,
        witness,
        daemon,
        end,
        noticed_at,
        finished_at,
        backend,
        proved,
        ended_count,
        ..
    } = head?;
    Some(CrashRecord {
        run,
        version,
        witness,
        daemon,
        end,
        noticed_at,
        finished_at,
        backend,
        proved,
        ended_count,
        ended,
        left,
        spared,
        damaged_lines,
    })
}
