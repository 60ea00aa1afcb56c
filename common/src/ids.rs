//! Newtypes for values that could be mixed up: names, ports, runs, processes, groups.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of a worker: `[a-z0-9][a-z0-9_-]*`, which is safe in file names, tables and arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkerName(String);

/// Why a string is not a valid identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not a worker name.
    #[error(
        "\"{0}\" is not a worker name: write lower-case letters, digits, '-' and '_', a letter or digit first"
    )]
    WorkerName(String),
    /// Not a port.
    #[error("{0} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// Not a run id.
    #[error("\"{0}\" is not the id of a run: `mcpctl history` lists all runs")]
    RunId(String),
}

impl WorkerName {
    /// The validated text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WorkerName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut chars = text.bytes();
        let first = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let rest = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_'));
        if first && rest { Ok(Self(text.to_owned())) } else { Err(InvalidId::WorkerName(text.to_owned())) }
    }
}

impl TryFrom<String> for WorkerName {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<WorkerName> for String {
    fn from(name: WorkerName) -> Self {
        name.0
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A TCP port, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    /// `None` for 0 and for numbers above 65535.
    pub fn new(number: impl TryInto<u16>) -> Option<Self> {
        number.try_into().ok().and_then(NonZeroU16::new).map(Self)
    }

    /// The number, 1 to 65535.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl FromStr for Port {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse::<u16>().ok().and_then(Self::new).ok_or_else(|| InvalidId::Port(text.to_owned()))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One run of the daemon, from start to exit: its start time in seconds and 32 random bits, as in
/// `20261122T130501Z-3f9a2c77`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId {
    began: Timestamp,
    tag: RunTag,
}

/// The random part of a [`RunId`]; short enough to be part of the [`Mark`] of every process of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunTag(pub u32);

const RUN_TIME: &str = "%Y%m%dT%H%M%SZ";

impl RunId {
    /// `began` is truncated to seconds.
    pub fn new(began: Timestamp, tag: RunTag) -> Self {
        let began = Timestamp::from_second(began.as_second()).unwrap_or(Timestamp::UNIX_EPOCH);
        Self { began, tag }
    }

    /// When the run began, in whole seconds.
    pub fn began(self) -> Timestamp {
        self.began
    }

    /// The random bits.
    pub fn tag(self) -> RunTag {
        self.tag
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{:08x}", self.began.strftime(RUN_TIME), self.tag.0))
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        parse_run_id(text).ok_or_else(|| InvalidId::RunId(text.to_owned()))
    }
}

fn parse_run_id(text: &str) -> Option<RunId> {
    let (time, tag) = text.split_once('-')?;
    let civil = jiff::civil::DateTime::strptime(RUN_TIME, time).ok()?;
    let began = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    // `from_str_radix` alone accepts a sign and fewer digits.
    if tag.len() != 8 || !tag.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let tag = u32::from_str_radix(tag, 16).ok()?;
    Some(RunId { began, tag: RunTag(tag) })
}

impl TryFrom<String> for RunId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(run: RunId) -> Self {
        run.to_string()
    }
}

/// The number of a worker within a run, as part of a [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(pub u16);

impl Slot {
    /// The numbers for workers, in the order of their names. Supervisor and run file assign them in this
    /// order, so that they agree.
    pub fn of_workers() -> impl Iterator<Item = Self> {
        (0..Self::FIRST_HELPER.0).map(Self)
    }

    /// The first number of processes that the daemon starts for itself (a `stop_command`, a resource's
    /// `close`).
    pub const FIRST_HELPER: Self = Self(0xf000);
}

/// Marks every process of a run, from its start to its exit, with the run and the worker. On Linux the mark
/// is the soft limit `RLIMIT_LOCKS`: the kernel ignores it since 2.4 (getrlimit(2)), a child inherits it,
/// exec and setuid keep it, and every process can read it in `/proc/PID/limits`. On macOS it is an
/// environment variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The run that started the process.
    pub run: RunTag,
    /// The worker that it belongs to.
    pub slot: Slot,
}

impl Mark {
    /// "MC" in the upper 16 bits: distinguishes a mark from a real limit.
    const MAGIC: u64 = 0x4d43;

    /// Encodes the mark as the value of a resource limit.
    pub fn to_limit(self) -> u64 {
        Self::MAGIC << 48 | u64::from(self.run.0) << 16 | u64::from(self.slot.0)
    }

    /// Decodes the value of a resource limit; `None` if it is not a mark.
    pub fn from_limit(limit: u64) -> Option<Self> {
        let [_, _, r3, r2, r1, r0, s1, s0] = limit.to_be_bytes();
        let run = RunTag(u32::from_be_bytes([r3, r2, r1, r0]));
        (limit >> 48 == Self::MAGIC).then_some(Self { run, slot: Slot(u16::from_be_bytes([s1, s0])) })
    }
}

/// A process id, always positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(i32);

impl Pid {
    /// `None` unless the number is positive: for kill(2), 0 and negative numbers mean process groups.
    pub fn new(number: i32) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The id of this process.
    pub fn current() -> Self {
        Self(std::process::id().cast_signed())
    }

    /// The number, for system calls.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A process group id: the pid of the group's leader. The daemon stores it when it starts the leader, and
/// never looks it up later, when the pid may have been reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pgid(Pid);

impl Pgid {
    /// The group that this process leads (setsid(2)).
    pub fn led_by(leader: Pid) -> Self {
        Self(leader)
    }

    /// The number, for system calls.
    pub fn get(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Display for Pgid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mark_is_decoded_as_it_was_encoded(run: u32, slot: u16) {
            let mark = Mark { run: RunTag(run), slot: Slot(slot) };
            prop_assert_eq!(Mark::from_limit(mark.to_limit()), Some(mark));
            prop_assert!(i64::try_from(mark.to_limit()).is_ok(), "a mark is never RLIM_INFINITY");
        }

        #[test]
        fn a_run_id_is_parsed_as_it_was_shown(second in 0i64..4_000_000_000, tag: u32) {
            let run = RunId::new(Timestamp::from_second(second).expect("in range"), RunTag(tag));
            prop_assert_eq!(run.to_string().parse::<RunId>(), Ok(run));
        }

        #[test]
        fn only_texts_with_allowed_characters_are_names(text in ".{0,12}") {
            prop_assert_eq!(text.parse::<WorkerName>().is_ok(), {
                let mut bytes = text.bytes();
                bytes.next().is_some_and(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9'))
                    && bytes.all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
            });
        }
    }

    #[test]
    fn a_real_limit_is_not_a_mark() {
        for limit in [0, 1024, u64::MAX, i64::MAX.cast_unsigned()] {
            assert_eq!(Mark::from_limit(limit), None);
        }
    }
}
