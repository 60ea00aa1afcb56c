//! Checks the paths of clients: only paths inside the repository, and nothing of `.git`.
//!
//! ```text
//! text --Root::name_path--> RepoPath --Root::resolve--> path without links --open_beneath--> File
//!         checks the spelling           follows links, checks where they lead      follows no link
//! ```
//!
//! Every file that this process reads is opened by the last step: a directory or file that is exchanged for
//! a link after the check is refused, not followed. Git reads the working tree by itself, and its blame and
//! grep follow links to directories: blame gets the opened file instead, and grep gets these directories
//! excluded (tools.rs). A directory that is exchanged while grep runs is not noticed.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

use mcpd_common::os::open_beneath;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// It leads outside, by its spelling or through a link.
    #[error("\"{0}\" is outside the repository: give a path relative to its root, without \"..\"")]
    Outside(String),
    /// It is inside `.git`.
    #[error("\"{0}\" belongs to git itself and is not served: use log, show or branches")]
    Internal(String),
    /// It is not a valid path.
    #[error("a path must not contain a NUL character")]
    Nul,
    /// It is a directory, a pipe or a device.
    #[error("\"{0}\" is not a regular file: list_files shows what there is")]
    NotAFile(String),
    /// It is a link, or a link leads to it.
    #[error(
        "\"{0}\" is a symbolic link, or in a directory that is one: give the path that the link leads to"
    )]
    Link(String),
    /// A link has taken its place since it was checked.
    #[error("\"{0}\" was exchanged while it was opened: ask again")]
    Exchanged(String),
    #[error("can't open \"{path}\": {source}")]
    Open { path: String, source: io::Error },
}

/// The served working tree; a canonical path.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

/// A path relative to the repository's root, without `..` and `.git`. A link may still lead outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoPath(String);

impl RepoPath {
    /// As text; empty for the root itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a pathspec that means exactly this path, whatever characters are in it.
    pub fn pathspec(&self) -> String {
        format!(":(top,literal){}", self.0)
    }

    /// The glob below this directory, whose own name is literal.
    pub fn below(&self, glob: &Self) -> Self {
        let literal: String = self.0.chars().flat_map(escape).collect();
        Self(if literal.is_empty() { glob.0.clone() } else { format!("{literal}/{}", glob.0) })
    }

    /// As a pathspec in which `*`, `?`, `[...]` and `**` match; `*` stops at a slash.
    pub fn glob(&self) -> String {
        format!(":(top,glob){}", self.0)
    }
}

impl Root {
    /// This directory must be a canonical path.
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn name(&self) -> String {
        self.0.file_name().map_or_else(|| "repository".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Checks the path of a client. An absolute path is accepted if it is below the root.
    pub fn name_path(&self, text: &str) -> Result<RepoPath, PathError> {
        if text.contains('\0') {
            return Err(PathError::Nul);
        }
        let outside = || PathError::Outside(text.to_owned());
        let path = Path::new(text);
        let relative =
            if path.is_absolute() { path.strip_prefix(&self.0).map_err(|_| outside())? } else { path };
        let mut parts = Vec::new();
        for part in relative.components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) if is_git(name) => return Err(PathError::Internal(text.to_owned())),
                Component::Normal(name) => parts.push(name.to_str().ok_or_else(outside)?),
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        Ok(RepoPath(parts.join("/")))
    }

    /// Opens a regular file; links may lead anywhere inside the root.
    pub fn open(&self, path: &RepoPath) -> Result<File, PathError> {
        let real = self.resolve(path)?;
        self.open_resolved(path, &real).map_err(|error| match error {
            PathError::Link(path) => PathError::Exchanged(path),
            other => other,
        })
    }

    /// Opens a regular file that no link leads to.
    pub fn open_without_links(&self, path: &RepoPath) -> Result<File, PathError> {
        self.open_resolved(path, Path::new(path.as_str()))
    }

    /// The topmost directory on the way to `file` that is a link; `None` if there is none.
    pub fn linked_directory(&self, file: &Path) -> Option<PathBuf> {
        let mut above: Vec<_> = file.ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
        above.reverse();
        above.into_iter().find(|directory| self.0.join(directory).is_symlink()).map(Path::to_owned)
    }

    /// The path without links, relative to the root. It may be out of date as soon as this returns.
    fn resolve(&self, path: &RepoPath) -> Result<PathBuf, PathError> {
        let shown = || path.as_str().to_owned();
        let real = self.0.join(path.as_str()).canonicalize();
        let real = real.map_err(|source| PathError::Open { path: shown(), source })?;
        let inside = real.strip_prefix(&self.0).map_err(|_| PathError::Outside(shown()))?;
        if inside.iter().any(is_git) {
            return Err(PathError::Internal(shown()));
        }
        Ok(inside.to_owned())
    }

    fn open_resolved(&self, path: &RepoPath, real: &Path) -> Result<File, PathError> {
        let shown = || path.as_str().to_owned();
        let failed = |source| PathError::Open { path: shown(), source };
        // Opened for each file, so that a repository that was cloned again at the same place is served.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.0, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let file = open_beneath(root, real).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::LOOP | Errno::NOTDIR | Errno::XDEV) => PathError::Link(shown()),
            _ => failed(error),
        })?;
        if file.metadata().map_err(failed)?.is_file() { Ok(file) } else { Err(PathError::NotAFile(shown())) }
    }
}

fn escape(character: char) -> impl Iterator<Item = char> {
    let special = matches!(character, '*' | '?' | '[' | '\\');
    special.then_some('\\').into_iter().chain([character])
}

fn is_git(name: &std::ffi::OsStr) -> bool {
    name.eq_ignore_ascii_case(".git")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn repository() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let repo = dir.path().join("repo");
        std::fs::create_dir_all(repo.join(".git")).expect("made");
        std::fs::create_dir_all(repo.join("src")).expect("made");
        std::fs::write(repo.join(".git/config"), "secret").expect("written");
        std::fs::write(repo.join("src/lib.rs"), "fn main() {}").expect("written");
        std::fs::write(dir.path().join("outside.txt"), "secret").expect("written");
        let root = Root::new(repo.canonicalize().expect("it exists"));
        (dir, root)
    }

    /// R-WORK: never outside the repository.
    #[test]
    fn paths_that_leave_the_root_are_refused() {
        let (_dir, root) = repository();
        for text in ["..", "../outside.txt", "src/../../outside.txt", "src/..", "/etc/passwd", "/"] {
            assert!(matches!(root.name_path(text), Err(PathError::Outside(_))), "{text}");
        }
        for text in [".git", ".git/config", "sub/.GIT/config", "./.git"] {
            assert!(matches!(root.name_path(text), Err(PathError::Internal(_))), "{text}");
        }
        assert!(matches!(root.name_path("a\0b"), Err(PathError::Nul)));
    }

    #[test]
    fn paths_inside_are_normalized() {
        let (_dir, root) = repository();
        let absolute = root.path().join("src/lib.rs");
        let absolute = absolute.to_str().expect("plain");
        for (text, meant) in
            [("src//lib.rs", "src/lib.rs"), ("./src/./lib.rs", "src/lib.rs"), (".", ""), ("", "")]
        {
            assert_eq!(root.name_path(text).expect("inside").as_str(), meant);
        }
        assert_eq!(root.name_path(absolute).expect("inside").as_str(), "src/lib.rs");
        assert_eq!(
            root.name_path("--output=x").expect("a strange name").pathspec(),
            ":(top,literal)--output=x"
        );
        assert_eq!(root.name_path(".gitignore").expect("not git's own").as_str(), ".gitignore");
    }

    /// R-WORK: symbolic links included.
    #[test]
    fn links_never_lead_out() {
        let (dir, root) = repository();
        let link = |target: &Path, name: &str| symlink(target, root.path().join(name)).expect("linked");
        link(&dir.path().join("outside.txt"), "absolute");
        link(Path::new("../outside.txt"), "relative");
        link(dir.path(), "above");
        link(Path::new(".git/config"), "config");
        link(Path::new(".git"), "plumbing");
        link(Path::new("src/lib.rs"), "good");
        let open = |text: &str| root.open(&root.name_path(text).expect("spelled inside"));
        for text in ["absolute", "relative", "above/outside.txt"] {
            assert!(matches!(open(text), Err(PathError::Outside(_))), "{text}");
        }
        for text in ["config", "plumbing/config"] {
            assert!(matches!(open(text), Err(PathError::Internal(_))), "{text}");
        }
        assert!(open("good").is_ok());
    }

    /// R-WORK: not even while `src` is exchanged for a link to a directory outside all the time.
    #[test]
    fn an_exchange_between_check_and_open_never_leads_out() {
        let (dir, root) = repository();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).expect("made");
        std::fs::write(outside.join("lib.rs"), "secret").expect("written");
        let path = root.name_path("src/lib.rs").expect("spelled inside");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let at = |name: &str| root.path().join(name);
                symlink(&outside, at("link")).expect("linked");
                while !is_over.load(Ordering::Relaxed) {
                    for (from, to) in [("src", "free"), ("link", "src"), ("src", "link"), ("free", "src")] {
                        std::fs::rename(at(from), at(to)).expect("renamed");
                    }
                }
            });
            let read = |file| std::io::read_to_string(file).expect("readable");
            let texts: Vec<_> = (0..20_000).filter_map(|_| root.open(&path).ok()).map(read).collect();
            // Before any assertion: a panic would wait for the other thread.
            is_over.store(true, Ordering::Relaxed);
            assert!(texts.iter().all(|text| text == "fn main() {}"), "read outside the repository");
        });
    }

    #[test]
    fn a_link_that_appears_after_the_check_is_refused() {
        let (dir, root) = repository();
        let path = root.name_path("src/lib.rs").expect("spelled inside");
        let real = root.resolve(&path).expect("inside");
        std::fs::remove_file(root.path().join("src/lib.rs")).expect("removed");
        symlink(dir.path().join("outside.txt"), root.path().join("src/lib.rs")).expect("linked");
        assert!(matches!(root.open_resolved(&path, &real), Err(PathError::Link(_))));
        std::fs::remove_dir_all(root.path().join("src")).expect("removed");
        symlink(root.path().join(".git"), root.path().join("src")).expect("linked");
        let config = Path::new("src/config");
        assert!(matches!(root.open_resolved(&path, config), Err(PathError::Link(_))));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let (_dir, root) = repository();
        nix::unistd::mkfifo(&root.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("made");
        let open = |text: &str| root.open(&root.name_path(text).expect("spelled inside"));
        for text in ["pipe", "src", ""] {
            assert!(matches!(open(text), Err(PathError::NotAFile(_))), "{text}");
        }
        assert!(matches!(open("missing"), Err(PathError::Open { .. })));
    }
}
