//! The files of a crate, and the file that a path leads to.

use std::collections::BTreeMap;
use std::path::Path;

use super::source::Source;

/// The files of a crate that are part of the program, by module.
#[derive(Debug)]
pub struct Tree {
    files: Vec<Source>,
    /// The module, as `["os", "linux"]`, and the index of its file.
    modules: BTreeMap<Vec<String>, usize>,
}

impl Tree {
    /// Files of tests are left out.
    pub fn read(workspace: &Path, folder: &str) -> Self {
        let paths = find_files(workspace, folder).into_iter().filter(|path| !is_test(path));
        Self::new(folder, paths.map(|path| Source::read(workspace, &path)).collect())
    }

    pub fn new(folder: &str, files: Vec<Source>) -> Self {
        let modules = files.iter().enumerate().map(|(index, file)| (module(folder, &file.path), index));
        let modules = modules.collect();
        Self { files, modules }
    }

    pub fn files(&self) -> &[Source] {
        &self.files
    }

    /// Each file with its module.
    pub fn modules(&self) -> impl Iterator<Item = (&[String], usize)> {
        self.modules.iter().map(|(module, index)| (module.as_slice(), *index))
    }

    pub fn has_module(&self, module: &[String]) -> bool {
        self.modules.contains_key(module)
    }

    /// The file in which the item of this absolute path is: the deepest module that the path names. A
    /// `mod.rs` that only lists other modules is passed: its `pub use` leads on.
    pub fn file_of(&self, path: &[String]) -> Option<usize> {
        let depth = (0..=path.len()).rev().find(|depth| self.has_module(&path[..*depth]))?;
        let index = self.modules[&path[..depth]];
        let file = &self.files[index];
        let Some(name) = path.get(depth) else { return Some(index) };
        if !file.is_only_a_list() {
            return Some(index);
        }
        let (_, behind) = file.exports().into_iter().find(|(exported, _)| exported == name)?;
        let behind = self.absolute(&path[..depth], &behind);
        if behind == path { None } else { self.file_of(&behind) }
    }

    /// A path of a file in this module, from the root of the crate on.
    pub fn absolute(&self, module: &[String], path: &[String]) -> Vec<String> {
        let mut place = module.to_vec();
        let mut parts = path.iter().peekable();
        if parts.next_if(|part| *part == "crate").is_some() {
            place.clear();
        }
        while let Some(part) = parts.next_if(|part| matches!(part.as_str(), "self" | "super")) {
            if part == "super" {
                place.pop();
            }
        }
        place.extend(parts.filter(|part| !matches!(part.as_str(), "self" | "*")).cloned());
        place
    }
}

/// All files with Rust below a folder of the workspace, relative to the workspace.
fn find_files(workspace: &Path, folder: &str) -> Vec<String> {
    let mut found = vec![];
    let entries =
        std::fs::read_dir(workspace.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    for entry in entries.map(|entry| entry.expect("readable")) {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(find_files(workspace, &path));
        } else if path.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Whether only tests compile this file.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let in_folder = ["/tests/", "/fake/"].iter().any(|folder| path.contains(folder));
    in_folder || matches!(name, "tests.rs" | "fake.rs") || name.ends_with("_tests.rs")
}

/// `daemon/src/proxy/mcp/mod.rs` below `daemon/src` is `["proxy", "mcp"]`.
fn module(folder: &str, path: &str) -> Vec<String> {
    let path = path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/');
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut parts: Vec<_> = path.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "main" | "lib")) {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Vec<String> {
        path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn sample() -> Tree {
        let files = [
            ("x/src/lib.rs", "pub mod a;\npub mod b;\n"),
            ("x/src/a.rs", "pub struct A;\n"),
            ("x/src/b/mod.rs", "mod c;\npub use c::C;\npub use crate::a::A;\n"),
            ("x/src/b/c.rs", "pub struct C;\n"),
        ];
        Tree::new("x/src", files.map(|(path, text)| Source::new(path, text)).into())
    }

    #[test]
    fn a_path_leads_to_the_file_with_the_item() {
        let tree = sample();
        let file = |path: &str| tree.file_of(&words(path)).map(|index| tree.files()[index].path.as_str());
        assert_eq!(file("a::A"), Some("x/src/a.rs"));
        assert_eq!(file("b::c::C"), Some("x/src/b/c.rs"));
        assert_eq!(file("b::C"), Some("x/src/b/c.rs"), "by the list in mod.rs");
        assert_eq!(file("b::A"), Some("x/src/a.rs"), "from another module");
        assert_eq!(file("b::None"), None);
    }

    #[test]
    fn paths_become_absolute() {
        let tree = sample();
        let absolute = |path: &str| tree.absolute(&words("b::c"), &words(path)).join("::");
        assert_eq!(absolute("crate::a::A"), "a::A");
        assert_eq!(absolute("super::C"), "b::C");
        assert_eq!(absolute("super::super::a::self"), "a");
        assert_eq!(absolute("self::x::*"), "b::c::x");
    }

    #[test]
    fn files_of_tests_are_no_part_of_the_program() {
        for path in ["d/src/tests.rs", "d/src/a/tests/b.rs", "d/src/a_tests.rs", "d/src/a/fake/b.rs"] {
            assert!(is_test(path), "{path}");
        }
        assert!(!is_test("d/src/contests.rs"));
    }
}
