//! What the builders need besides the text.

use std::path::Path;

use super::problem::Notes;
use crate::paths::Environment;

/// The surroundings in which a configuration is read.
pub(super) struct Context<'a> {
    /// The directory that relative paths start from.
    pub base: &'a Path,
    pub env: Environment<'a>,
    pub notes: &'a Notes,
    pub remember: Remember,
    /// `None`: repositories are judged by their files alone.
    pub git: Option<GitReason<'a>>,
}

/// Asks git about a directory; returns git's own reason not to serve its repository.
pub type GitReason<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// Whether newly derived ports are written into the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remember {
    Yes,
    No,
}
