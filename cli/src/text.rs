//! Numbers and times as a person reads them, and foreign text made safe for a terminal.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What time it is and in which zone it is shown; a value, so that tests can fix it.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Now.
    pub now: Timestamp,
    /// Where times are shown.
    pub zone: TimeZone,
}

impl Clock {
    /// The machine's own.
    pub fn system() -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system() }
    }

    /// A time of any day: `2026-11-22 13:05:01`.
    pub fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// A time of today, to the millisecond: `13:05:01.123`.
    pub fn moment(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S.%3f").to_string()
    }

    /// How long ago that was: `2 h 5 min`.
    pub fn since(&self, at: Timestamp) -> String {
        coarse(self.now.duration_since(at).as_secs().max(0).unsigned_abs())
    }
}

/// Milliseconds, three digits or so: `12 ms`, `1.20 s`, `81.0 s`, `2 min 5 s`.
pub fn duration(ms: u64) -> String {
    let tens = ms / 10;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{:02} s", tens / 100, tens % 100),
        10_000..120_000 => format!("{}.{} s", ms / 1000, ms / 100 % 10),
        _ => coarse(ms / 1000),
    }
}

/// A limit: whole seconds where it is whole, so that `10 s` is not `10.0 s`.
pub fn limit(ms: u64) -> String {
    match ms % 1000 {
        0 if ms < 600_000 => format!("{} s", ms / 1000),
        _ => duration(ms),
    }
}

/// Seconds in two units at most.
fn coarse(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// "1 worker", "3 workers".
pub fn count(number: usize, singular: &str) -> String {
    match number {
        1 => format!("1 {singular}"),
        _ => format!("{number} {singular}s"),
    }
}

/// Foreign text (command lines, names, answers) without control characters: they could move
/// the cursor, recolour the terminal or break a table.
pub fn clean(text: &str) -> Cow<'_, str> {
    match text.chars().any(char::is_control) {
        true => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let shown =
            [0, 12, 999, 1_000, 1_204, 9_999, 10_000, 81_049, 119_999, 125_000, 3_600_000, 90_000_000]
                .map(duration)
                .join(", ");
        let expected = "0 ms, 12 ms, 999 ms, 1.00 s, 1.20 s, 9.99 s, 10.0 s, 81.0 s, 119.9 s, 2 min 5 s, 1 h 0 min, 1 d 1 h";
        assert_eq!(shown, expected);
        assert_eq!([10_000, 81_500, 0].map(limit), ["10 s", "81.5 s", "0 s"]);
    }

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a [2Jb c");
        assert!(matches!(clean("plain ünï"), Cow::Borrowed(_)));
    }
}
