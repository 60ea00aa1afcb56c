//! Formats numbers and times for people, and makes text from other programs safe for a terminal.

use std::borrow::Cow;

pub use mcpd_common::wording::count;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The current time and the time zone of the output; a value, so that tests can fix both.
#[derive(Clone, Debug)]
pub struct Clock {
    pub now: Timestamp,
    pub zone: TimeZone,
}

impl Clock {
    pub fn system() -> Self {
        Self { now: Timestamp::now(), zone: TimeZone::system() }
    }

    /// `2026-11-22 13:05:01`.
    pub fn date_time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// `13:05:01.123`.
    pub fn time_of_day(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S.%3f").to_string()
    }

    /// The time since then: `2 h 5 min`.
    pub fn since(&self, at: Timestamp) -> String {
        coarse(self.now.duration_since(at).as_secs().max(0).unsigned_abs())
    }
}

/// Milliseconds with about three digits: `12 ms`, `1.20 s`, `81.0 s`, `2 min 5 s`.
pub fn duration(ms: u64) -> String {
    let tens = ms / 10;
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{}.{:02} s", tens / 100, tens % 100),
        10_000..120_000 => format!("{}.{} s", ms / 1000, ms / 100 % 10),
        _ => coarse(ms / 1000),
    }
}

/// A limit in milliseconds. Whole seconds are shown without a fraction: `10 s`, not `10.0 s`.
pub fn limit(ms: u64) -> String {
    match ms % 1000 {
        0 if ms < 600_000 => format!("{} s", ms / 1000),
        _ => duration(ms),
    }
}

/// Seconds in at most two units.
fn coarse(seconds: u64) -> String {
    let minutes = seconds / 60;
    let hours = minutes / 60;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Replaces control characters by spaces. In text from other programs (command lines, names, answers) they
/// could move the cursor, recolour the terminal or break a table.
pub fn without_control_characters(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_about_three_digits() {
        for (ms, expected) in [
            (0, "0 ms"),
            (12, "12 ms"),
            (999, "999 ms"),
            (1_000, "1.00 s"),
            (1_204, "1.20 s"),
            (9_999, "9.99 s"),
            (10_000, "10.0 s"),
            (81_049, "81.0 s"),
            (119_999, "119.9 s"),
            (125_000, "2 min 5 s"),
            (3_600_000, "1 h 0 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(ms), expected);
        }
        assert_eq!([10_000, 81_500, 0].map(limit), ["10 s", "81.5 s", "0 s"]);
    }

    #[test]
    fn text_of_other_programs_can_not_move_the_cursor() {
        assert_eq!(without_control_characters("a\x1b[2Jb\nc"), "a [2Jb c");
        assert!(matches!(without_control_characters("plain ünï"), Cow::Borrowed(_)));
    }
}
