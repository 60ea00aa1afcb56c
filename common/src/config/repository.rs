//! Finds the git repository that a directory belongs to, by its files alone, as git does.

use std::path::{Path, PathBuf};

/// What was found in the directory or the nearest one above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundRepository {
    /// The root of a working tree: it has a `.git`.
    WorkingTree(PathBuf),
    /// A repository without a working tree.
    Bare(PathBuf),
}

/// The repository of this directory; `None` if there is none.
pub fn find_repository(directory: &Path) -> Option<FoundRepository> {
    // Of a link, the directory that it leads to counts: a process that runs there sees no other one.
    let real = directory.canonicalize();
    real.as_deref().unwrap_or(directory).ancestors().find_map(|directory| {
        if directory.join(".git").exists() {
            Some(FoundRepository::WorkingTree(directory.to_owned()))
        } else if is_bare(directory) {
            Some(FoundRepository::Bare(directory.to_owned()))
        } else {
            None
        }
    })
}

/// The files by which git knows a repository. `.git` itself has them, too.
fn is_bare(directory: &Path) -> bool {
    !directory.ends_with(".git")
        && directory.join("HEAD").is_file()
        && directory.join("objects").is_dir()
        && directory.join("refs").is_dir()
}

#[cfg(test)]
mod tests {
    use super::FoundRepository::{Bare, WorkingTree};
    use super::*;

    #[test]
    fn the_nearest_repository_is_found() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("it exists");
        assert_eq!(find_repository(&root), None);
        for made in
            ["tree/sub", "tree/.git/objects", "tree/.git/refs", "tree/x.git/objects", "tree/x.git/refs"]
        {
            std::fs::create_dir_all(root.join(made)).expect("made");
        }
        for head in ["tree/.git/HEAD", "tree/x.git/HEAD"] {
            std::fs::write(root.join(head), "ref: refs/heads/main\n").expect("written");
        }
        std::os::unix::fs::symlink(root.join("tree/sub"), root.join("link")).expect("linked");
        for (directory, found) in [
            ("tree", WorkingTree(root.join("tree"))),
            ("tree/sub", WorkingTree(root.join("tree"))),
            ("link", WorkingTree(root.join("tree"))),
            ("tree/.git", WorkingTree(root.join("tree"))),
            ("tree/x.git", Bare(root.join("tree/x.git"))),
            ("tree/x.git/refs", Bare(root.join("tree/x.git"))),
        ] {
            assert_eq!(find_repository(&root.join(directory)), Some(found), "{directory}");
        }
    }
}
