//! The file mode creation mask, umask(2).

use std::sync::OnceLock;

use rustix::fs::{Mode, RawMode};
use rustix::process::umask;

/// The mask that this process was started with; set when it was restricted.
static ORIGINAL: OnceLock<Mode> = OnceLock::new();

/// From now on new files and directories are for this user only (077). The children that this process
/// starts for its workers get the original mask back.
pub fn restrict_umask() {
    let original = umask(Mode::from_raw_mode(0o077));
    // A second call must not take 077 for the original.
    let _ = ORIGINAL.set(original);
}

/// Sets the original mask again, for a program that replaces this one.
pub fn restore_umask() {
    if let Some(original) = ORIGINAL.get() {
        umask(*original);
    }
}

/// The mask that workers get; `None` if this process never restricted its own.
pub(in crate::os) fn original_umask() -> Option<RawMode> {
    ORIGINAL.get().map(|mode| mode.as_raw_mode())
}
