//! The parameters of the tools. The comments are the descriptions in the JSON schemas that clients get.

use rmcp::schemars::{self, JsonSchema};
use serde::Deserialize;

/// Parameters of `status`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusParams {
    /// Only what is in these files or directories, relative to the repository's root.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// Parameters of `log`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogParams {
    /// The newest commit to show (a branch, a tag, a commit id), or a range such as "main..topic". Default: HEAD.
    pub revision: Option<String>,
    /// Only commits that touch these files or directories, relative to the repository's root.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Only commits whose author's name or address matches this regular expression.
    pub author: Option<String>,
    /// Only commits whose message matches this regular expression.
    pub message: Option<String>,
    /// Only commits after this date, such as "2026-01-31" or "2 weeks ago".
    pub since: Option<String>,
    /// Only commits before this date.
    pub until: Option<String>,
    /// Limit of commits, 1 to 1000. Default: 20.
    pub limit: Option<u32>,
    /// The number of commits to skip first.
    pub skip: Option<u32>,
    /// Also show which files each commit changed, and how much.
    #[serde(default)]
    pub stat: bool,
}

/// Parameters of `diff`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiffParams {
    /// The older side. Alone: compare it with the working tree. Default: the index.
    pub from: Option<String>,
    /// The newer side; needs `from`.
    pub to: Option<String>,
    /// Compare what is staged with HEAD (or with `from`) instead of the working tree.
    #[serde(default)]
    pub staged: bool,
    /// Only these files or directories, relative to the repository's root.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Only which files changed and how much, without the lines.
    #[serde(default)]
    pub stat: bool,
    /// Lines of context around each change, 0 to 1000. Default: 3.
    pub context: Option<u32>,
}

/// Parameters of `show`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowParams {
    /// The commit or tag: a branch, a tag, a commit id.
    pub revision: String,
    /// Only the changes in these files or directories, relative to the repository's root.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Only which files changed and how much, without the lines.
    #[serde(default)]
    pub stat: bool,
}

/// Parameters of `blame`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlameParams {
    /// The file, relative to the repository's root.
    pub path: String,
    /// As of this revision. Default: the working tree.
    pub revision: Option<String>,
    /// The first line, counted from 1. Default: the first of the file.
    pub start_line: Option<u32>,
    /// The last line. Default: the last of the file.
    pub end_line: Option<u32>,
}

/// Parameters of `branches`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BranchesParams {
    /// Also the branches of remotes, as last fetched.
    #[serde(default)]
    pub remote: bool,
    /// Also tags.
    #[serde(default)]
    pub tags: bool,
    /// Only those that contain this revision.
    pub contains: Option<String>,
}

/// Parameters of `grep`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrepParams {
    /// The text to search for: an extended regular expression.
    pub pattern: String,
    /// Take the pattern as plain text, not as a regular expression.
    #[serde(default)]
    pub fixed: bool,
    /// Ignore the difference between upper and lower case.
    #[serde(default)]
    pub ignore_case: bool,
    /// Only files that match this glob, such as "src/**/*.rs"; "*" stops at a slash.
    pub glob: Option<String>,
    /// Only in this file or directory, relative to the repository's root.
    pub path: Option<String>,
    /// Search this revision instead of the working tree.
    pub revision: Option<String>,
    /// Lines of context around each match, 0 to 100. Default: 0.
    pub context: Option<u32>,
    /// Only the names of the files with a match.
    #[serde(default)]
    pub names_only: bool,
}

/// Parameters of `list_files`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListFilesParams {
    /// Only below this directory, relative to the repository's root.
    pub path: Option<String>,
    /// Only files that match this glob, such as "**/*.rs"; "*" stops at a slash. Not with `revision`.
    pub glob: Option<String>,
    /// The files of this revision instead of the working tree's.
    pub revision: Option<String>,
    /// Also files that git does not track, unless they are ignored. Not with `revision`.
    #[serde(default)]
    pub untracked: bool,
}

/// Parameters of `read_file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadFileParams {
    /// The file, relative to the repository's root.
    pub path: String,
    /// As of this revision. Default: the working tree.
    pub revision: Option<String>,
    /// The first line, counted from 1. Default: the first of the file.
    pub start_line: Option<u32>,
    /// The last line. Default: the last of the file.
    pub end_line: Option<u32>,
}
