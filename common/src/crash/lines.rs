//! The file format: one JSON object per line, so that damage to one line does not affect the others.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::record::{CRASH_SCHEMA, CleanedUpBy, CrashRecord, DaemonEnd, LeftoverProcess, NAMED};
use crate::ids::{Pid, RunId};
use crate::os::Backend;

#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    Crash(Head),
    Ended(LeftoverProcess),
    Left(LeftoverProcess),
    #[serde(rename = "spared")]
    Preexisting(LeftoverProcess),
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema: String,
    run: RunId,
    version: String,
    #[serde(rename = "witness")]
    cleaned_up_by: CleanedUpBy,
    daemon: Pid,
    end: DaemonEnd,
    #[serde(rename = "noticed_at")]
    detected_at: Timestamp,
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
        cleaned_up_by: record.cleaned_up_by,
        daemon: record.daemon,
        end: record.end,
        detected_at: record.detected_at,
        finished_at: record.finished_at,
        backend: record.backend,
        proved: record.proved,
        ended_count: record.ended_count,
    });
    let ended = record.ended.iter().take(NAMED).cloned().map(Line::Ended);
    let left = record.left.iter().take(NAMED).cloned().map(Line::Left);
    let preexisting = record.preexisting.iter().take(NAMED).cloned().map(Line::Preexisting);
    let lines = std::iter::once(head).chain(ended).chain(left).chain(preexisting);
    // Serializing can't fail: the lines contain only strings, numbers and booleans.
    lines.filter_map(|line| serde_json::to_string(&line).ok()).map(|line| line + "\n").collect()
}

pub(super) fn parse(bytes: &[u8]) -> Option<CrashRecord> {
    let mut head = None;
    let mut damaged_lines = 0;
    let mut ended = vec![];
    let mut left = vec![];
    let mut preexisting = vec![];
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Line>(line) {
            Ok(Line::Crash(found)) if found.schema == CRASH_SCHEMA && head.is_none() => head = Some(found),
            Ok(Line::Ended(process)) if ended.len() < NAMED => ended.push(process),
            Ok(Line::Left(process)) if left.len() < NAMED => left.push(process),
            Ok(Line::Preexisting(process)) if preexisting.len() < NAMED => preexisting.push(process),
            Ok(_) | Err(_) => damaged_lines += 1,
        }
    }
    let Head {
        run,
        version,
        cleaned_up_by,
        daemon,
        end,
        detected_at,
        finished_at,
        backend,
        proved,
        ended_count,
        ..
    } = head?;
    Some(CrashRecord {
        run,
        version,
        cleaned_up_by,
        daemon,
        end,
        detected_at,
        finished_at,
        backend,
        proved,
        ended_count,
        ended,
        left,
        preexisting,
        damaged_lines,
    })
}
