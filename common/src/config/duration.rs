//! Durations as people write them: `"1m 30s"`, `"500ms"`, or a number of seconds.

use std::time::Duration;

use jiff::SignedDuration;

/// The longest that is accepted anywhere. Longer ones are slips of the keyboard, and would
/// overflow what is added to them.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What is allowed, for messages.
pub(super) const ALLOWED: &str =
    "write a text like \"10s\", \"1m 30s\" or \"500ms\", or a number of seconds, more than 0 and at most 24h";

/// Why something is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidDuration {
    #[error("is no duration")]
    NotADuration,
    #[error("is not a number")]
    NotANumber,
    #[error("is negative")]
    Negative,
    #[error("is zero")]
    Zero,
    #[error("is more than 24h")]
    TooLong,
}

/// Reads a text with units.
pub(super) fn from_text(text: &str) -> Result<Duration, InvalidDuration> {
    let parsed: SignedDuration = text.trim().parse().map_err(|_| InvalidDuration::NotADuration)?;
    match parsed {
        negative if negative.is_negative() => Err(InvalidDuration::Negative),
        positive => checked(positive.unsigned_abs()),
    }
}

/// Takes a number of seconds.
pub(super) fn from_seconds(seconds: f64) -> Result<Duration, InvalidDuration> {
    match seconds {
        nan if nan.is_nan() => Err(InvalidDuration::NotANumber),
        negative if negative < 0.0 => Err(InvalidDuration::Negative),
        // Also infinity, which no Duration can hold.
        long if long > LONGEST.as_secs_f64() => Err(InvalidDuration::TooLong),
        fits => checked(Duration::from_secs_f64(fits)),
    }
}

fn checked(duration: Duration) -> Result<Duration, InvalidDuration> {
    match duration {
        Duration::ZERO => Err(InvalidDuration::Zero),
        long if long > LONGEST => Err(InvalidDuration::TooLong),
        fits => Ok(fits),
    }
}

/// As it is shown: `30s`, `1m 30s`, `500ms`.
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
    fn people_write_durations_in_many_ways() {
        let reads = |text| from_text(text).expect(text);
        assert_eq!(reads("10s"), Duration::from_secs(10));
        assert_eq!(reads("1m 30s"), Duration::from_secs(90));
        assert_eq!(reads("500ms"), Duration::from_millis(500));
        assert_eq!(reads(" 2 minutes "), Duration::from_secs(120));
        assert_eq!(from_seconds(0.25), Ok(Duration::from_millis(250)));
    }

    /// R-CONF-3.
    #[test]
    fn what_is_no_wait_is_refused() {
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
        fn any_text_and_any_number_give_a_wait_or_an_error(text in "\\PC{0,20}", seconds: f64) {
            for wait in [from_text(&text), from_seconds(seconds)].into_iter().flatten() {
                prop_assert!(wait > Duration::ZERO && wait <= LONGEST);
            }
        }
    }
}
