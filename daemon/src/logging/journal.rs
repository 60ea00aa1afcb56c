//! Lines for the journal of systemd: it adds time and program, and takes the level from the prefix `<N>` of a line
//! (sd-daemon(3)).

use std::borrow::Cow;
use std::fmt;

use mcpd_common::os::this_process::stderr_is_journal;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

/// Whether standard error is the journal.
pub fn is_standard_error() -> bool {
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stderr_is_journal(&stream))
}

/// The text of an error, with prefixes if standard error is the journal.
pub fn error_text(text: &str) -> Cow<'_, str> {
    if is_standard_error() { Cow::Owned(prefixed(text, Level::ERROR)) } else { Cow::Borrowed(text) }
}

/// The prefix in front of each line, because the journal makes an entry of each.
fn prefixed(text: &str, level: Level) -> String {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    };
    text.lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

/// Neither time nor level as text.
pub struct JournalFormat(Format<Full, ()>);

impl Default for JournalFormat {
    fn default() -> Self {
        Self(format().without_time().with_level(false).with_target(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        writer.write_str(&prefixed(&text, *event.metadata().level()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_the_priority_of_its_level() {
        assert_eq!(prefixed("one\ntwo\n", Level::ERROR), "<3>one\n<3>two\n");
        assert_eq!(prefixed("a warning", Level::WARN), "<4>a warning\n");
        assert_eq!(prefixed("worker=docs\n", Level::INFO), "<6>worker=docs\n");
    }
}
