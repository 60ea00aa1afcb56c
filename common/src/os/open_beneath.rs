//! Opens a file below a directory without following any symbolic link.
//!
//! A path that was checked may lead elsewhere a moment later: another process can exchange a directory for
//! a symbolic link between the check and the open. Here the check is part of the open.
//!
//! ```text
//! Linux      openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
//! otherwise  openat(2) with O_NOFOLLOW, one component after the other
//! ```
//!
//! The second variant is also used on Linux if the kernel has no openat2(2) (`ENOSYS`, before 5.6) or a
//! seccomp filter denies it (`EPERM`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};

use super::backend::{Backend, backend};

/// For the file itself. `O_NONBLOCK`: the open of a FIFO without a writer returns.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// For the directories on the way to it.
const DIRECTORY: OFlags = SEARCH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// `O_PATH` needs no permission to read the directory.
#[cfg(target_os = "linux")]
const SEARCH: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const SEARCH: OFlags = OFlags::RDONLY;

/// Opens for reading what `path` names below `directory`. An empty path names the directory itself.
///
/// # Errors
/// - `EXDEV`: the path is absolute or contains `..`.
/// - `ELOOP`, or `ENOTDIR` before the last component: a component is a symbolic link.
/// - Any other error of openat(2).
pub fn open_beneath(directory: impl AsFd, path: &Path) -> io::Result<File> {
    let directory = directory.as_fd();
    if backend() == Backend::Linux
        && let Some(opened) = in_one_step(directory, path)
    {
        return opened.map(File::from);
    }
    by_component(directory, path).map(File::from)
}

/// With openat2(2); `None` if it can't be used here.
#[cfg(target_os = "linux")]
fn in_one_step(directory: BorrowedFd<'_>, path: &Path) -> Option<io::Result<OwnedFd>> {
    use rustix::fs::{ResolveFlags, openat2};

    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = or_itself(path);
    if path.components().any(|part| part == Component::ParentDir) {
        // RESOLVE_BENEATH would allow a `..` that stays below the directory; no caller needs one.
        return Some(Err(Errno::XDEV.into()));
    }
    match retry_on_intr(|| openat2(directory, path, FILE, Mode::empty(), resolve)) {
        Err(Errno::NOSYS | Errno::PERM) => None,
        opened => Some(opened.map_err(io::Error::from)),
    }
}

#[cfg(not(target_os = "linux"))]
fn in_one_step(_: BorrowedFd<'_>, _: &Path) -> Option<io::Result<OwnedFd>> {
    None
}

/// With openat(2) for each component.
fn by_component(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => names.push(Path::new(name)),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Errno::XDEV.into());
            }
        }
    }
    let file = names.pop().unwrap_or(Path::new("."));
    let mut parent: Option<OwnedFd> = None;
    for name in names {
        let at = parent.as_ref().map_or(directory, AsFd::as_fd);
        parent = Some(retry_on_intr(|| openat(at, name, DIRECTORY, Mode::empty()))?);
    }
    let at = parent.as_ref().map_or(directory, AsFd::as_fd);
    Ok(retry_on_intr(|| openat(at, file, FILE, Mode::empty()))?)
}

#[cfg(target_os = "linux")]
fn or_itself(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    type Opener = fn(BorrowedFd<'_>, &Path) -> io::Result<OwnedFd>;

    /// Both variants where the kernel has both.
    fn variants() -> Vec<(&'static str, Opener)> {
        let mut variants: Vec<(&'static str, Opener)> = vec![("by component", by_component)];
        let here = File::open(".").expect("opened");
        if in_one_step(here.as_fd(), Path::new("")).is_some() {
            variants.push(("in one step", |at, path| in_one_step(at, path).expect("usable a moment ago")));
        }
        variants
    }

    /// `root/a/b/file`, `outside/file`, and links of all kinds in `root`.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        std::fs::create_dir(dir.path().join("outside")).expect("made");
        std::fs::write(root.join("a/b/file"), "inside").expect("written");
        std::fs::write(dir.path().join("outside/file"), "outside").expect("written");
        for (target, link) in [
            ("../outside", "out"),
            ("../outside/file", "out-file"),
            ("a", "in"),
            ("a/b/file", "in-file"),
            ("/proc/self/root", "magic"),
            ("in-file", "a/loop"),
        ] {
            symlink(target, root.join(link)).expect("linked");
        }
        symlink(&root, root.join("absolute")).expect("linked");
        (dir, root)
    }

    fn contents(opened: io::Result<OwnedFd>) -> io::Result<String> {
        let mut text = String::new();
        File::from(opened?).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn files_below_the_directory_are_opened() {
        let (_dir, root) = tree();
        let root = File::open(root).expect("opened");
        for (variant, open) in variants() {
            for path in ["a/b/file", "./a/./b/file", "a//b/file"] {
                let text = contents(open(root.as_fd(), Path::new(path))).expect(variant);
                assert_eq!(text, "inside", "{variant}: {path}");
            }
            for directory in ["", ".", "a/b"] {
                let opened = open(root.as_fd(), Path::new(directory)).expect(variant);
                assert!(File::from(opened).metadata().expect("open").is_dir(), "{variant}: {directory}");
            }
        }
    }

    #[test]
    fn no_link_is_followed_and_no_path_leads_out() {
        let (_dir, root) = tree();
        let root = File::open(root).expect("opened");
        for (variant, open) in variants() {
            for (path, errors) in [
                ("out-file", &[Errno::LOOP][..]),
                ("in-file", &[Errno::LOOP]),
                ("a/loop", &[Errno::LOOP]),
                ("out/file", &[Errno::LOOP, Errno::NOTDIR]),
                ("in/b/file", &[Errno::LOOP, Errno::NOTDIR]),
                ("absolute/a/b/file", &[Errno::LOOP, Errno::NOTDIR]),
                ("magic/etc/passwd", &[Errno::LOOP, Errno::NOTDIR]),
                ("..", &[Errno::XDEV]),
                ("a/../../outside/file", &[Errno::XDEV]),
                ("a/../a/b/file", &[Errno::XDEV]),
                ("/etc/passwd", &[Errno::XDEV]),
                ("a/missing", &[Errno::NOENT]),
                ("a/b/file/x", &[Errno::NOTDIR]),
            ] {
                let error = open(root.as_fd(), Path::new(path)).expect_err(path);
                let errno = Errno::from_io_error(&error).expect("an error of the system");
                assert!(errors.contains(&errno), "{variant}: {path}: {error}");
            }
        }
    }

    /// A directory is exchanged for a link to another one all the time: its file is never opened.
    #[test]
    fn an_exchange_during_the_open_never_leads_out() {
        let (_dir, root) = tree();
        let directory = File::open(&root).expect("opened");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (directory, link, free) = (root.join("a/b"), root.join("link"), root.join("free"));
                symlink("../../outside", &link).expect("linked");
                while !is_over.load(Ordering::Relaxed) {
                    for (from, to) in [(&directory, &free), (&link, &directory)] {
                        std::fs::rename(from, to).expect("renamed");
                    }
                    for (from, to) in [(&directory, &link), (&free, &directory)] {
                        std::fs::rename(from, to).expect("renamed");
                    }
                }
            });
            let mut read = Vec::new();
            for (variant, open) in variants() {
                let opened = (0..3000).map(|_| open(directory.as_fd(), Path::new("a/b/file")));
                read.extend(opened.filter_map(|opened| contents(opened).ok()).map(|text| (variant, text)));
            }
            // Before any assertion: a panic would wait for the other thread.
            is_over.store(true, Ordering::Relaxed);
            assert!(read.iter().all(|(_, text)| text == "inside"), "{read:?}");
        });
    }

    #[test]
    fn a_fifo_does_not_block_the_open() {
        let (_dir, root) = tree();
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("made");
        let root = File::open(root).expect("opened");
        for (variant, open) in variants() {
            assert!(open(root.as_fd(), Path::new("fifo")).is_ok(), "{variant}");
        }
    }
}
