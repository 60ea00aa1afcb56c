//! Derives names for workers that are written as a directory only.

use std::collections::BTreeSet;
use std::path::Path;

use crate::ids::WorkerName;

/// A name from the directory's last component that is not in `taken`: lower-case, invalid characters
/// become '-', and "-2", "-3", ... is appended if the name is taken.
pub(super) fn derive(repo: &Path, taken: &BTreeSet<WorkerName>) -> WorkerName {
    let stem = of(repo);
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    std::iter::once(stem.clone())
        .chain(numbered)
        .filter_map(|name| name.parse().ok())
        .find(|name| !taken.contains(name))
        .expect("there are more numbers than taken names")
}

/// A valid name from the last component.
pub(super) fn of(repo: &Path) -> String {
    let last = repo.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    match name.trim_matches(['-', '_']) {
        "" => "repo".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_valid_and_unique() {
        let mut taken = BTreeSet::new();
        let paths =
            ["/src/Alpha", "/other/alpha", "/third/alpha", "/x/My Project.rs", "/", "/x/.dot", "/x/\u{e9}"];
        let names: Vec<_> = paths
            .iter()
            .map(|path| {
                let name = derive(Path::new(path), &taken);
                taken.insert(name.clone());
                name.to_string()
            })
            .collect();
        assert_eq!(names, ["alpha", "alpha-2", "alpha-3", "my-project-rs", "repo", "dot", "repo-2"]);
    }

    proptest! {
        #[test]
        fn any_directory_gets_a_name(path in "\\PC{0,20}") {
            let _ = derive(Path::new(&path), &BTreeSet::new());
        }
    }
}
