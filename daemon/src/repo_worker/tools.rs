//! The tools. Each turns its parameters into one read-only git command, or into an error that
//! says what to write instead.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::{tool, tool_router};
use tokio_util::sync::CancellationToken;

use super::file::{self, Lines};
use super::git::{GitError, GitOutput};
use super::params::{
    BlameParams, BranchesParams, DiffParams, GrepParams, ListFilesParams, LogParams, ReadFileParams,
    ShowParams, StatusParams,
};
use super::paths::{PathError, RepoPath, Root};
use super::revision::{Kind, RevisionError, resolve, resolve_range};
use super::server::RepoServer;

/// Text for the client, or an error text, which it gets as `isError`.
type ToolOutput = Result<String, String>;

/// Diff options that disable programs from attributes and configuration.
const DIFF: [&str; 4] = ["--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--submodule=short"];

impl RepoServer {
    /// All tools.
    pub(super) fn tools() -> ToolRouter<Self> {
        Self::tool_router()
    }
}

#[tool_router]
impl RepoServer {
    /// The state of the working tree: the branch, how far it is ahead or behind, and which files
    /// are staged, changed or untracked (in git's short format).
    #[tool(annotations(title = "Status", read_only_hint = true, open_world_hint = false))]
    async fn status(
        &self,
        Parameters(params): Parameters<StatusParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let mut args = words(&["status", "--porcelain=v1", "--branch", "--ignore-submodules=dirty"]);
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.ask(args, cancel).await
    }

    /// The history: commits with author, date and message, newest first.
    #[tool(annotations(title = "Log", read_only_hint = true, open_world_hint = false))]
    async fn log(&self, Parameters(params): Parameters<LogParams>, cancel: CancellationToken) -> ToolOutput {
        let limit = within("limit", params.limit.unwrap_or(20), 1, 1000)?;
        let mut args = words(&["log", "--format=medium", "--date=iso-strict", "--decorate=short"]);
        args.extend(words(&DIFF));
        args.push(format!("--max-count={limit}"));
        args.extend(params.skip.map(|skip| format!("--skip={skip}")));
        args.extend(params.author.map(|author| format!("--author={author}")));
        args.extend(params.message.map(|message| format!("--grep={message}")));
        args.extend(params.since.map(|since| format!("--since={since}")));
        args.extend(params.until.map(|until| format!("--until={until}")));
        args.extend(params.stat.then(|| "--stat".to_owned()));
        let revision = params.revision.as_deref().unwrap_or("HEAD");
        args.push(resolve_range(&self.git, revision, &cancel).await.map_err(error_text)?);
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.ask_or(args, cancel, "no such commits").await
    }

    /// The differences between two revisions, a revision and the working tree, or the index and
    /// either, as a patch.
    #[tool(annotations(title = "Diff", read_only_hint = true, open_world_hint = false))]
    async fn diff(
        &self,
        Parameters(params): Parameters<DiffParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        if params.to.is_some() && (params.from.is_none() || params.staged) {
            return Err("`to` needs `from` beside it, and can't be combined with `staged`".to_owned());
        }
        let mut args = words(&["diff"]);
        args.extend(words(&DIFF));
        args.extend(params.staged.then(|| "--cached".to_owned()));
        args.extend(params.stat.then(|| "--stat".to_owned()));
        if let Some(context) = params.context {
            args.push(format!("--unified={}", within("context", context, 0, 1000)?));
        }
        for side in [&params.from, &params.to].into_iter().flatten() {
            args.push(self.commit(side, &cancel).await?);
        }
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.ask_or(args, cancel, "no differences").await
    }

    /// One commit or tag: its message and what it changed.
    #[tool(annotations(title = "Show", read_only_hint = true, open_world_hint = false))]
    async fn show(
        &self,
        Parameters(params): Parameters<ShowParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let mut args = words(&["show", "--format=medium", "--date=iso-strict", "--decorate=short"]);
        args.extend(words(&DIFF));
        args.push(if params.stat { "--stat" } else { "--patch" }.to_owned());
        args.push(resolve(&self.git, &params.revision, Kind::Object, &cancel).await.map_err(error_text)?);
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.ask_or(args, cancel, "nothing in these paths").await
    }

    /// Who last changed each line of a file, in which commit and when.
    #[tool(annotations(title = "Blame", read_only_hint = true, open_world_hint = false))]
    async fn blame(
        &self,
        Parameters(params): Parameters<BlameParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let lines = Lines { first: params.start_line, last: params.end_line }.check().map_err(error_text)?;
        let path = self.file_path(&params.path)?;
        let mut args = words(&["blame", "--date=short", "--no-textconv"]);
        let end = lines.last.map(|last| last.to_string()).unwrap_or_default();
        args.push(format!("-L{},{end}", lines.first.unwrap_or(1)));
        let mut input = Stdio::null();
        match &params.revision {
            Some(revision) => args.push(self.commit(revision, &cancel).await?),
            None => {
                // git would follow a link to a directory outside the repository.
                let file = self.in_tree(&path, Root::open_without_links).await?;
                input = file.into();
                args.extend(words(&["--contents", "-"]));
            }
        }
        args.extend(["--".to_owned(), path.as_str().to_owned()]);
        let text = self.answer(args, input, &cancel).await.map_err(error_text)?.text();
        Ok(if text.is_empty() { "the file is empty".to_owned() } else { text })
    }

    /// The branches with their commits and how they stand to their upstreams, most recently
    /// changed first. The current one has a star.
    #[tool(annotations(title = "Branches", read_only_hint = true, open_world_hint = false))]
    async fn branches(
        &self,
        Parameters(params): Parameters<BranchesParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let mut args = words(&["for-each-ref", "--sort=-committerdate", "--count=1000"]);
        args.push(
            "--format=%(HEAD) %(refname:short) %(objectname:short) %(creatordate:short) \
             %(if)%(upstream)%(then)[%(upstream:short)%(if)%(upstream:track)%(then) \
             %(upstream:track,nobracket)%(end)] %(end)%(contents:subject)"
                .to_owned(),
        );
        if let Some(revision) = &params.contains {
            args.push(format!("--contains={}", self.commit(revision, &cancel).await?));
        }
        args.push("refs/heads".to_owned());
        args.extend(params.remote.then(|| "refs/remotes".to_owned()));
        args.extend(params.tags.then(|| "refs/tags".to_owned()));
        self.ask_or(args, cancel, "no such branches").await
    }

    /// Searches the tracked files: lines that match, with file and line number.
    #[tool(annotations(title = "Grep", read_only_hint = true, open_world_hint = false))]
    async fn grep(
        &self,
        Parameters(params): Parameters<GrepParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        if params.pattern.is_empty() {
            return Err("`pattern` is empty: write what to look for".to_owned());
        }
        let mut args =
            words(&["grep", "-I", "-n", "--no-textconv", "--no-recurse-submodules", "--full-name"]);
        args.push(if params.fixed { "-F" } else { "-E" }.to_owned());
        args.extend(params.ignore_case.then(|| "-i".to_owned()));
        args.extend(params.names_only.then(|| "-l".to_owned()));
        if let Some(context) = params.context {
            args.push(format!("-C{}", within("context", context, 0, 100)?));
        }
        args.extend(["-e".to_owned(), params.pattern]);
        let place = self.place(params.path.as_deref(), params.glob.as_deref())?;
        match &params.revision {
            Some(revision) => {
                args.push(self.commit(revision, &cancel).await?);
                args.extend(place);
            }
            None => {
                let excluded = self.linked_directories(&place, &cancel).await?;
                args.extend(place);
                args.extend(excluded);
            }
        }
        match self.run(args, &cancel).await {
            // Exit status 1 of grep means "no match".
            Err(GitError::Failed { code: Some(1), .. }) => Ok("no matches".to_owned()),
            done => done.map_err(error_text),
        }
    }

    /// The files of the repository, one a line.
    #[tool(
        name = "list_files",
        annotations(title = "List files", read_only_hint = true, open_world_hint = false)
    )]
    async fn list_files(
        &self,
        Parameters(params): Parameters<ListFilesParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let mut args = match &params.revision {
            Some(_) if params.glob.is_some() || params.untracked => {
                return Err("`revision` can't be combined with `glob` or `untracked`".to_owned());
            }
            Some(revision) => {
                let commit = self.commit(revision, &cancel).await?;
                let mut args = words(&["ls-tree", "-r", "--name-only", "--full-tree"]);
                args.push(commit);
                args
            }
            None => words(&["ls-files", "--cached", "--deduplicate"]),
        };
        if params.untracked {
            args.extend(words(&["--others", "--exclude-standard"]));
        }
        args.extend(self.place(params.path.as_deref(), params.glob.as_deref())?);
        self.ask_or(args, cancel, "no such files").await
    }

    /// The contents of a text file, whole or some lines of it, from the working tree or from a
    /// revision.
    #[tool(
        name = "read_file",
        annotations(title = "Read file", read_only_hint = true, open_world_hint = false)
    )]
    async fn read_file(
        &self,
        Parameters(params): Parameters<ReadFileParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let lines = Lines { first: params.start_line, last: params.end_line }.check().map_err(error_text)?;
        let path = self.file_path(&params.path)?;
        let Some(revision) = &params.revision else {
            return self.read_from_tree(path, lines).await;
        };
        let commit = self.commit(revision, &cancel).await?;
        let blob = format!("{commit}:{}", path.as_str());
        let answer = self.answer(words(&["cat-file", "blob", &blob]), Stdio::null(), &cancel).await;
        let answer = answer.map_err(|error| match error {
            GitError::Failed { .. } => format!("there is no file \"{}\" in {revision}", path.as_str()),
            other => other.to_string(),
        })?;
        file::show(answer.into_bytes(), path.as_str(), lines).map_err(error_text)
    }
}

impl RepoServer {
    /// The output of a command.
    async fn ask(&self, args: Vec<String>, cancel: CancellationToken) -> ToolOutput {
        self.run(args, &cancel).await.map_err(error_text)
    }

    /// The output of a command, or `nothing` if it is empty.
    async fn ask_or(&self, args: Vec<String>, cancel: CancellationToken, nothing: &str) -> ToolOutput {
        let text = self.ask(args, cancel).await?;
        Ok(if text.is_empty() { nothing.to_owned() } else { text })
    }

    async fn run(&self, args: Vec<String>, cancel: &CancellationToken) -> Result<String, GitError> {
        self.answer(args, Stdio::null(), cancel).await.map(|answer| answer.text())
    }

    /// Runs a command until it ends, the client cancels it, or the worker stops.
    async fn answer(
        &self,
        args: Vec<String>,
        input: Stdio,
        cancel: &CancellationToken,
    ) -> Result<GitOutput, GitError> {
        let either = cancel.child_token();
        let run = self.git.run_with_input(args, input, &either);
        tokio::pin!(run);
        tokio::select! {
            done = &mut run => done,
            () = self.working.cancelled() => {
                either.cancel();
                run.await
            }
        }
    }

    async fn commit(&self, revision: &str, cancel: &CancellationToken) -> ToolOutput {
        let found: Result<_, RevisionError> = resolve(&self.git, revision, Kind::Commit, cancel).await;
        found.map_err(error_text)
    }

    async fn read_from_tree(&self, path: RepoPath, lines: Lines) -> ToolOutput {
        let file = self.in_tree(&path, Root::open).await?;
        let read = move || file::read(file, path.as_str(), lines).map_err(error_text);
        tokio::task::spawn_blocking(read).await.map_err(error_text)?
    }

    /// Opens a file of the working tree.
    async fn in_tree(
        &self,
        path: &RepoPath,
        open: fn(&Root, &RepoPath) -> Result<File, PathError>,
    ) -> Result<File, String> {
        let root = self.root.clone();
        let path = path.clone();
        let opened = tokio::task::spawn_blocking(move || open(&root, &path)).await.map_err(error_text)?;
        opened.map_err(error_text)
    }

    /// Excludes tracked directories that are symbolic links in the working tree: grep would follow them.
    /// `place` is the part of the repository that is searched.
    async fn linked_directories(
        &self,
        place: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, String> {
        // diff-files does not follow them: the files behind them count as deleted.
        let mut args = words(&["diff-files", "--name-only", "--diff-filter=D", "--ignore-submodules", "-z"]);
        args.extend_from_slice(place);
        let deleted = self.answer(args, Stdio::null(), cancel).await.map_err(error_text)?;
        if deleted.is_cut() {
            return Err("too many tracked files are missing from the working tree to search it: \
                        name a directory in `path`, or a `revision`"
                .to_owned());
        }
        let root = self.root.clone();
        let find = move || {
            let deleted = deleted.into_bytes();
            let files = deleted.split(|byte| *byte == 0).map(|name| Path::new(OsStr::from_bytes(name)));
            let linked: BTreeSet<_> = files.filter_map(|file| root.linked_directory(file)).collect();
            let exclude = |directory: &PathBuf| match directory.to_str() {
                Some(name) => Ok(format!(":(exclude,top,literal){name}")),
                None => Err(format!(
                    "can't search around {}, which is a symbolic link: name another directory in `path`",
                    directory.display()
                )),
            };
            linked.iter().map(exclude).collect()
        };
        tokio::task::spawn_blocking(find).await.map_err(error_text)?
    }

    /// A path that must be below the root.
    fn file_path(&self, text: &str) -> Result<RepoPath, String> {
        let path = self.root.name_path(text).map_err(error_text)?;
        if path.as_str().is_empty() {
            return Err("`path` must name a file: list_files shows what there is".to_owned());
        }
        Ok(path)
    }

    /// `-- PATH...`, each of them literal.
    fn pathspecs(&self, paths: &[String]) -> Result<Vec<String>, PathError> {
        let mut args = words(&["--"]);
        for path in paths {
            args.push(self.root.name_path(path)?.pathspec());
        }
        Ok(args)
    }

    /// `-- PLACE`: a directory, a glob, or a glob below a directory.
    fn place(&self, path: Option<&str>, glob: Option<&str>) -> Result<Vec<String>, String> {
        let path = path.map(|path| self.root.name_path(path)).transpose().map_err(error_text)?;
        let glob = glob.map(|glob| self.root.name_path(glob)).transpose().map_err(error_text)?;
        let mut args = words(&["--"]);
        args.extend(match (path, glob) {
            (None, None) => None,
            (Some(path), None) => Some(path.pathspec()),
            (None, Some(glob)) => Some(glob.glob()),
            (Some(path), Some(glob)) => Some(path.below(&glob).glob()),
        });
        Ok(args)
    }
}

fn error_text(error: impl Display) -> String {
    error.to_string()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn within(name: &str, value: u32, least: u32, most: u32) -> Result<u32, String> {
    let fits = (least..=most).contains(&value);
    if fits { Ok(value) } else { Err(format!("`{name}` must be from {least} to {most}")) }
}
