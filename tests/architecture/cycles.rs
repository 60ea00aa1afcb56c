//! Files that use each other, directly or by others.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::Tree;

/// Which file uses which, and on which line first.
type Uses = BTreeMap<usize, BTreeMap<usize, usize>>;

/// Each cycle as text: the lines by which its files use each other.
pub fn cycles(tree: &Tree) -> Vec<String> {
    let uses = uses(tree);
    let files: Vec<_> = uses.keys().copied().collect();
    let reached: BTreeMap<_, _> = files.iter().map(|file| (*file, reachable(&uses, *file))).collect();
    let mut described = BTreeSet::new();
    let mut cycles = vec![];
    for file in &files {
        let is_mutual = |other: &usize| reached[file].contains(other) && reached[other].contains(file);
        let cycle: Vec<_> = files.iter().copied().filter(is_mutual).collect();
        if cycle.len() > 1 && described.insert(cycle.clone()) {
            cycles.push(describe(tree, &uses, &cycle));
        }
    }
    cycles
}

/// A `mod.rs` that only lists modules uses nothing itself: [`Tree::file_of`] passes it.
fn uses(tree: &Tree) -> Uses {
    let mut uses = Uses::new();
    for (module, index) in tree.modules() {
        let file = &tree.files()[index];
        let used = uses.entry(index).or_default();
        if file.is_only_a_list() {
            continue;
        }
        for (line, path) in file.paths() {
            let target = tree.file_of(&tree.absolute(module, &path));
            if let Some(target) = target.filter(|target| *target != index) {
                used.entry(target).or_insert(line);
            }
        }
    }
    uses
}

/// What is used by a file, and by what it uses.
fn reachable(uses: &Uses, from: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        let fresh = uses[&file].keys().filter(|target| reached.insert(**target));
        open.extend(fresh);
    }
    reached
}

fn describe(tree: &Tree, uses: &Uses, cycle: &[usize]) -> String {
    let mut text = String::from("rule: no files of common use each other in a circle");
    for from in cycle {
        for (to, line) in uses[from].iter().filter(|(to, _)| cycle.contains(to)) {
            let shown = tree.files()[*from].shown(*line);
            let used = &tree.files()[*to].path;
            text.push_str(&format!("\n    {shown}    ({used})"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        cycles(&Tree::new("common/src", files))
    }

    #[test]
    fn a_cycle_of_three_is_found_with_its_lines() {
        let found = of(&[
            ("common/src/a.rs", "use crate::b::B;\n"),
            ("common/src/b.rs", "\nuse super::c::C;\n"),
            ("common/src/c.rs", "fn f() { crate::a::g() }\nuse crate::d::D;\n"),
            ("common/src/d.rs", ""),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected = [
            "common/src/a.rs:1: use crate::b::B;    (common/src/b.rs)",
            "common/src/b.rs:2: use super::c::C;    (common/src/c.rs)",
            "common/src/c.rs:1: fn f() { crate::a::g() }    (common/src/a.rs)",
        ];
        assert!(expected.iter().all(|line| found[0].contains(line)), "{}", found[0]);
        assert!(!found[0].contains("d.rs"), "{}", found[0]);
    }

    #[test]
    fn a_list_of_modules_makes_no_cycle() {
        let list = ("common/src/x/mod.rs", "mod a;\nmod b;\npub use self::a::A;\npub use self::b::B;\n");
        let b = ("common/src/x/b.rs", "use super::A;\n");
        assert_eq!(of(&[list, b, ("common/src/x/a.rs", "")]), [] as [&str; 0]);
        assert_eq!(of(&[list, b, ("common/src/x/a.rs", "use super::B;\n")]).len(), 1);
    }

    #[test]
    fn a_parent_with_code_is_a_file_like_any_other() {
        let parent = ("common/src/x/mod.rs", "mod a;\npub fn f() { self::a::g() }\n");
        assert_eq!(of(&[parent, ("common/src/x/a.rs", "use super::f;\n")]).len(), 1);
    }
}
