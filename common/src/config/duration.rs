//! Reads and shows durations: `"1m 30s"`, `"500ms"`, or a number of seconds.

use std::time::Duration;

use jiff::SignedDuration;

/// The longest duration that is accepted. Longer ones are typing errors, and could overflow when added to
/// a point in time.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// The allowed values, for the help of a problem.
pub(super) const ALLOWED: &str =
    "write a text like \"10s\", \"1m 30s\" or \"500ms\", or a number of seconds, more than 0 and at most 24h";

/// Why a value is not a duration; the texts follow "which".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// A text without a number or a unit.
    #[error("is not a duration")]
    NotADuration,
    /// NaN as a number of seconds.
    #[error("is not a number")]
    NotANumber,
    /// Less than 0.
    #[error("is negative")]
    Negative,
    /// 0.
    #[error("is zero")]
    Zero,
    /// More than [`MAX_DURATION`].
    #[error("is more than 24h")]
    TooLong,
}

/// Parses a text with units.
pub fn from_text(text: &str) -> Result<Duration, InvalidDuration> {
    let parsed: SignedDuration = text.trim().parse().map_err(|_| InvalidDuration::NotADuration)?;
    match parsed {
        negative if negative.is_negative() => Err(InvalidDuration::Negative),
        positive => checked(positive.unsigned_abs()),
    }
}

/// Converts a number of seconds.
pub(super) fn from_seconds(seconds: f64) -> Result<Duration, InvalidDuration> {
    match seconds {
        nan if nan.is_nan() => Err(InvalidDuration::NotANumber),
        negative if negative < 0.0 => Err(InvalidDuration::Negative),
        // Also catches infinity, which a Duration can't hold.
        long if long > MAX_DURATION.as_secs_f64() => Err(InvalidDuration::TooLong),
        fits => checked(Duration::from_secs_f64(fits)),
    }
}

fn checked(duration: Duration) -> Result<Duration, InvalidDuration> {
    match duration {
        Duration::ZERO => Err(InvalidDuration::Zero),
        long if long > MAX_DURATION => Err(InvalidDuration::TooLong),
        fits => Ok(fits),
    }
}

/// The text of a duration: `30s`, `1m 30s`, `500ms`.
pub fn show(duration: Duration) -> String {
    match SignedDuration::try_from(duration) {
        Ok(signed) => format!("{signed:#}"),
        Err(_) => format!("{}s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_notations_of_durations_are_accepted() {
        let reads = |text| from_text(text).expect(text);
        assert_eq!(reads("10s"), Duration::from_secs(10));
        assert_eq!(reads("1m 30s"), Duration::from_secs(90));
        assert_eq!(reads("500ms"), Duration::from_millis(500));
        assert_eq!(reads(" 2 minutes "), Duration::from_secs(120));
        assert_eq!(from_seconds(0.25), Ok(Duration::from_millis(250)));
    }

    /// R-CONF-3.
    #[test]
    fn a_value_that_is_not_a_duration_is_refused() {
        use InvalidDuration::*;
        let refused =
            [("", NotADuration), ("soon", NotADuration), ("0s", Zero), ("-3s", Negative), ("25h", TooLong)];
        for (text, why) in refused {
            assert_eq!(from_text(text), Err(why), "{text}");
        }
        let refused = [
            (f64::NAN, NotANumber),
            (f64::INFINITY, TooLong),
            (-1.0, Negative),
            (-0.0, Zero),
            (1e300, TooLong),
        ];
        for (seconds, why) in refused {
            assert_eq!(from_seconds(seconds), Err(why), "{seconds}");
        }
    }

    #[test]
    fn a_shown_duration_is_short() {
        assert_eq!(show(Duration::from_secs(90)), "1m 30s");
        assert_eq!(show(Duration::from_millis(500)), "500ms");
    }

    proptest! {
        #[test]
        fn any_text_and_any_number_give_a_duration_or_an_error(text in "\\PC{0,20}", seconds: f64) {
            for duration in [from_text(&text), from_seconds(seconds)].into_iter().flatten() {
                prop_assert!(duration > Duration::ZERO && duration <= MAX_DURATION);
            }
        }
    }
}
