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

use super::file::{self, LineRange};
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
const DIFF_OPTIONS: [&str; 4] =
    ["--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--submodule=short"];

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
        let mut args = strings(&["status", "--porcelain=v1", "--branch", "--ignore-submodules=dirty"]);
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.text(args, cancel).await
    }

    /// The history: commits with author, date and message, newest first.
    #[tool(annotations(title = "Log", read_only_hint = true, open_world_hint = false))]
    async fn log(&self, Parameters(params): Parameters<LogParams>, cancel: CancellationToken) -> ToolOutput {
        let limit = in_range("limit", params.limit.unwrap_or(20), 1, 1000)?;
        let mut args = strings(&["log", "--format=medium", "--date=iso-strict", "--decorate=short"]);
        args.extend(strings(&DIFF_OPTIONS));
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
        self.text_or(args, cancel, "no such commits").await
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
        let mut args = strings(&["diff"]);
        args.extend(strings(&DIFF_OPTIONS));
        args.extend(params.staged.then(|| "--cached".to_owned()));
        args.extend(params.stat.then(|| "--stat".to_owned()));
        if let Some(context) = params.context {
            args.push(format!("--unified={}", in_range("context", context, 0, 1000)?));
        }
        for side in [&params.from, &params.to].into_iter().flatten() {
            args.push(self.commit(side, &cancel).await?);
        }
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.text_or(args, cancel, "no differences").await
    }

    /// One commit or tag: its message and what it changed.
    #[tool(annotations(title = "Show", read_only_hint = true, open_world_hint = false))]
    async fn show(
        &self,
        Parameters(params): Parameters<ShowParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let mut args = strings(&["show", "--format=medium", "--date=iso-strict", "--decorate=short"]);
        args.extend(strings(&DIFF_OPTIONS));
        args.push(if params.stat { "--stat" } else { "--patch" }.to_owned());
        args.push(resolve(&self.git, &params.revision, Kind::Object, &cancel).await.map_err(error_text)?);
        args.extend(self.pathspecs(&params.paths).map_err(error_text)?);
        self.text_or(args, cancel, "nothing in these paths").await
    }

    /// Who last changed each line of a file, in which commit and when.
    #[tool(annotations(title = "Blame", read_only_hint = true, open_world_hint = false))]
    async fn blame(
        &self,
        Parameters(params): Parameters<BlameParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let lines =
            LineRange { first: params.start_line, last: params.end_line }.check().map_err(error_text)?;
        let path = self.file_path(&params.path)?;
        let mut args = strings(&["blame", "--date=short", "--no-textconv"]);
        let end = lines.last.map(|last| last.to_string()).unwrap_or_default();
        args.push(format!("-L{},{end}", lines.first.unwrap_or(1)));
        let mut input = Stdio::null();
        match &params.revision {
            Some(revision) => args.push(self.commit(revision, &cancel).await?),
            None => {
                // git would follow a link to a directory outside the repository.
                let file = self.open_in_tree(&path, Root::open_without_links).await?;
                input = file.into();
                args.extend(strings(&["--contents", "-"]));
            }
        }
        args.extend(["--".to_owned(), path.as_str().to_owned()]);
        let text = self.output(args, input, &cancel).await.map_err(error_text)?.text();
        Ok(if text.is_empty() { "the file is empty".to_owned() } else { text })
    }

    /// The branches with their commits and how far they are ahead of or behind their upstreams, most recently
    /// changed first. The current one has a star.
    #[tool(annotations(title = "Branches", read_only_hint = true, open_world_hint = false))]
    async fn branches(
        &self,
        Parameters(params): Parameters<BranchesParams>,
        cancel: CancellationToken,
    ) -> ToolOutput {
        let mut args = strings(&["for-each-ref", "--sort=-committerdate", "--count=1000"]);
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
        self.text_or(args, cancel, "no such branches").await
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
            strings(&["grep", "-I", "-n", "--no-textconv", "--no-recurse-submodules", "--full-name"]);
        args.push(if params.fixed { "-F" } else { "-E" }.to_owned());
        args.extend(params.ignore_case.then(|| "-i".to_owned()));
        args.extend(params.names_only.then(|| "-l".to_owned()));
        if let Some(context) = params.context {
            args.push(format!("-C{}", in_range("context", context, 0, 100)?));
        }
        args.extend(["-e".to_owned(), params.pattern]);
        let pathspec = self.search_pathspec(params.path.as_deref(), params.glob.as_deref())?;
        match &params.revision {
            Some(revision) => {
                args.push(self.commit(revision, &cancel).await?);
                args.extend(pathspec);
            }
            None => {
                let excluded = self.linked_directories(&pathspec, &cancel).await?;
                args.extend(pathspec);
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
                let mut args = strings(&["ls-tree", "-r", "--name-only", "--full-tree"]);
                args.push(commit);
                args
            }
            None => strings(&["ls-files", "--cached", "--deduplicate"]),
        };
        if params.untracked {
            args.extend(strings(&["--others", "--exclude-standard"]));
        }
        args.extend(self.search_pathspec(params.path.as_deref(), params.glob.as_deref())?);
        self.text_or(args, cancel, "no such files").await
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
        let lines =
            LineRange { first: params.start_line, last: params.end_line }.check().map_err(error_text)?;
        let path = self.file_path(&params.path)?;
        let Some(revision) = &params.revision else {
            return self.read_from_tree(path, lines).await;
        };
        let commit = self.commit(revision, &cancel).await?;
        let name = format!("{commit}:{}", path.as_str());
        let blob = self.output(strings(&["cat-file", "blob", &name]), Stdio::null(), &cancel).await;
        let blob = blob.map_err(|error| match error {
            GitError::Failed { .. } => format!("there is no file \"{}\" in {revision}", path.as_str()),
            other => other.to_string(),
        })?;
        file::show(blob.into_bytes(), path.as_str(), lines).map_err(error_text)
    }
}

impl RepoServer {
    /// The output of a command.
    async fn text(&self, args: Vec<String>, cancel: CancellationToken) -> ToolOutput {
        self.run(args, &cancel).await.map_err(error_text)
    }

    /// The output of a command, or this text if it is empty.
    async fn text_or(&self, args: Vec<String>, cancel: CancellationToken, if_empty: &str) -> ToolOutput {
        let text = self.text(args, cancel).await?;
        Ok(if text.is_empty() { if_empty.to_owned() } else { text })
    }

    async fn run(&self, args: Vec<String>, cancel: &CancellationToken) -> Result<String, GitError> {
        self.output(args, Stdio::null(), cancel).await.map(|output| output.text())
    }

    /// Runs a command until it ends, the client cancels it, or the worker stops.
    async fn output(
        &self,
        args: Vec<String>,
        input: Stdio,
        cancel: &CancellationToken,
    ) -> Result<GitOutput, GitError> {
        let cancel = cancel.child_token();
        let run = self.git.run_with_input(args, input, &cancel);
        tokio::pin!(run);
        tokio::select! {
            done = &mut run => done,
            () = self.interrupted.cancelled() => {
                cancel.cancel();
                run.await
            }
        }
    }

    async fn commit(&self, revision: &str, cancel: &CancellationToken) -> ToolOutput {
        let found: Result<_, RevisionError> = resolve(&self.git, revision, Kind::Commit, cancel).await;
        found.map_err(error_text)
    }

    async fn read_from_tree(&self, path: RepoPath, lines: LineRange) -> ToolOutput {
        let file = self.open_in_tree(&path, Root::open).await?;
        let read = move || file::read(file, path.as_str(), lines).map_err(error_text);
        tokio::task::spawn_blocking(read).await.map_err(error_text)?
    }

    /// Opens a file of the working tree.
    async fn open_in_tree(
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
    /// `pathspec` limits the search.
    async fn linked_directories(
        &self,
        pathspec: &[String],
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, String> {
        // diff-files does not follow them: the files behind them count as deleted.
        let mut args =
            strings(&["diff-files", "--name-only", "--diff-filter=D", "--ignore-submodules", "-z"]);
        args.extend_from_slice(pathspec);
        let deleted = self.output(args, Stdio::null(), cancel).await.map_err(error_text)?;
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
        let mut args = strings(&["--"]);
        for path in paths {
            args.push(self.root.name_path(path)?.pathspec());
        }
        Ok(args)
    }

    /// `-- PATHSPEC`: a directory, a glob, or a glob below a directory; `--` alone is the whole repository.
    fn search_pathspec(&self, path: Option<&str>, glob: Option<&str>) -> Result<Vec<String>, String> {
        let path = path.map(|path| self.root.name_path(path)).transpose().map_err(error_text)?;
        let glob = glob.map(|glob| self.root.name_path(glob)).transpose().map_err(error_text)?;
        let mut args = strings(&["--"]);
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

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn in_range(name: &str, value: u32, min: u32, max: u32) -> Result<u32, String> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(format!("`{name}` must be from {min} to {max}"))
    }
}
