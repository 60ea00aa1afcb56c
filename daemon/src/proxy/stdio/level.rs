//! The severities of `notifications/message` (RFC 5424, section 6.2.1).

use serde_json::value::RawValue;

/// The least severe first.
const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(usize);

impl Level {
    /// What a client gets that did not say what it wants, once another one has said it.
    pub const UNSAID: Self = Self(1);

    /// Reads a JSON string.
    pub fn read(raw: &RawValue) -> Option<Self> {
        let name: String = serde_json::from_str(raw.get()).ok()?;
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    pub fn name(self) -> &'static str {
        NAMES[self.0]
    }
}
