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

/// "2 sessions of clients that are gone were ended"; `None` for none.
pub fn ended_sessions(number: u32) -> Option<String> {
    match number {
        0 => None,
        1 => Some("1 session of a client that is gone was ended".to_owned()),
        _ => Some(format!("{number} sessions of clients that are gone were ended")),
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

/// Removes escape sequences and replaces other control characters by spaces. In text from other programs
/// (command lines, names, answers) they could move the cursor, recolour the terminal or break a table.
pub fn without_control_characters(text: &str) -> Cow<'_, str> {
    printable(text, char::is_control)
}

/// A line of a log for a terminal. Tabs stay, because they align columns.
pub fn printable_line(line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches('\r');
    printable(line, |c| c.is_control() && c != '\t').into_owned()
}

fn printable(text: &str, is_harmful: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_harmful) {
        return text.into();
    }
    let plain = anstream::adapter::strip_str(text).to_string();
    plain.chars().map(|c| if is_harmful(c) { ' ' } else { c }).collect()
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
        assert_eq!(without_control_characters("a\x1b[2Jb\nc"), "ab c");
        assert!(matches!(without_control_characters("plain ünï"), Cow::Borrowed(_)));
    }

    /// R-CLI-4.
    #[test]
    fn a_line_of_a_log_keeps_its_text_and_its_tabs_only() {
        for (line, expected) in [
            (&b"plain \tline"[..], "plain \tline"),
            (b"\x1b[31mred\x1b[0m and \x1b]0;title\x07bell\x07", "red and bell"),
            (b"10%\r20%\r", "10% 20%"),
            (b"\x1bPq\x1b\\sixel \xc2\x9b2J", "sixel  2J"),
            (b"not UTF-8: \xff", "not UTF-8: \u{fffd}"),
            ("ünï 漢字".as_bytes(), "ünï 漢字"),
        ] {
            let shown = printable_line(line);
            assert_eq!(shown, expected);
            assert!(!shown.contains(|c: char| c.is_control() && c != '\t'), "{shown:?}");
        }
    }
}
