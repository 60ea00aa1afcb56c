//! The daemon's rooms: each is a module at the top, or the neutral files that all may use.

use std::collections::BTreeSet;

use super::tree::Tree;

/// What every room may use.
const GROUND: [&str; 19] = [
    "progress",
    "condition",
    "last_output",
    "warnings",
    "worker_listener",
    "listening_sockets",
    "deadline",
    "journal",
    "logging",
    "instance",
    "random",
    "service_manager",
    "descriptors",
    "fault",
    "socket_file",
    "client_ports",
    "host_check",
    "port_holder",
    "slots",
];

/// What puts everything together, and may use everything.
const APP: [&str; 10] =
    ["signals", "handover", "boot", "app", "start", "args", "banner", "commands", "service_status", "main"];

/// A room, and the rooms that it may use besides itself and the ground.
const ROOMS: [(&str, &[&str]); 11] = [
    ("ground", &[]),
    ("process", &[]),
    ("supervisor", &["process"]),
    ("guardian", &["process"]),
    ("recovery", &["process"]),
    ("proxy", &[]),
    ("resources", &["process"]),
    ("verify", &["process", "resources"]),
    ("shutdown", &["process", "supervisor", "proxy", "verify", "resources"]),
    ("control", &["process", "supervisor", "proxy", "verify", "resources", "shutdown"]),
    ("repo_worker", &[]),
];

/// The only part of a room that another room may use.
const DOORS: [(&str, &str); 1] = [("supervisor", "proxy::handle")];

/// The room of a module at the top; `None` if there is no rule for it.
fn room(module: &str) -> Option<&'static str> {
    if GROUND.contains(&module) {
        return Some("ground");
    }
    if APP.contains(&module) {
        return Some("app");
    }
    ROOMS.iter().map(|(room, _)| *room).find(|room| *room == module && *room != "ground")
}

fn allowed(room: &str) -> &'static [&'static str] {
    ROOMS.iter().find(|(name, _)| *name == room).map_or(&[], |(_, allowed)| allowed)
}

/// The rule that a path breaks, if it breaks one.
fn broken_rule(from: &str, path: &[String], to: &str) -> Option<String> {
    let allowed = allowed(from);
    let is_door = DOORS.iter().any(|(room, door)| {
        let door: Vec<_> = door.split("::").collect();
        *room == from && path.len() >= door.len() && path.iter().zip(&door).all(|(part, door)| part == door)
    });
    if from == "app" || from == to || to == "ground" || allowed.contains(&to) || is_door {
        return None;
    }
    let mut may: Vec<String> = ["ground"].iter().chain(allowed).map(|room| (*room).to_owned()).collect();
    may.extend(DOORS.iter().filter(|(room, _)| *room == from).map(|(_, door)| format!("only {door}")));
    Some(format!("{from} may use {}; this is {to}", may.join(", ")))
}

/// Each use of a room by another one that may not use it.
pub fn violations(tree: &Tree) -> Vec<String> {
    let mut violations = BTreeSet::new();
    for (module, index) in tree.modules() {
        let file = &tree.files()[index];
        let top = module.first().map_or("main", String::as_str);
        let Some(from) = room(top) else {
            violations.insert(file.violation(1, &format!("`{top}` is in no room: add it to rooms.rs")));
            continue;
        };
        for (line, path) in file.paths() {
            let path = tree.absolute(module, &path);
            // What is no module is an item of main.rs.
            let target = path.first().filter(|first| tree.has_module(&[(*first).clone()]));
            let to = target.map_or(Some("app"), |target| room(target));
            if let Some(rule) = to.and_then(|to| broken_rule(from, &path, to)) {
                violations.insert(file.violation(line, &rule));
            }
        }
    }
    violations.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn of(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        violations(&Tree::new("daemon/src", files))
    }

    const OTHERS: [(&str, &str); 5] = [
        ("daemon/src/main.rs", "mod deadline;\n"),
        ("daemon/src/deadline.rs", ""),
        ("daemon/src/process/mod.rs", ""),
        ("daemon/src/proxy/mod.rs", "pub mod handle;\n"),
        ("daemon/src/proxy/handle.rs", "use super::Proxy;\n"),
    ];

    fn with(path: &str, text: &str) -> Vec<String> {
        of(&[&OTHERS[..], &[(path, text)]].concat())
    }

    #[test]
    fn a_forbidden_use_is_found_with_its_line() {
        let text = "//! Text.\n\nuse crate::{\n    deadline::now,\n    process::Pid,\n};\n";
        assert_eq!(
            with("daemon/src/proxy/thread.rs", text),
            ["daemon/src/proxy/thread.rs:5: process::Pid,\n    rule: proxy may use ground; this is process"]
        );
    }

    #[test]
    fn the_supervisor_uses_only_the_handle_of_the_proxy() {
        let text = "use crate::process::Pid;\nuse crate::proxy::handle::Handle;\nuse crate::proxy::Proxy;\n";
        let found = with("daemon/src/supervisor/mod.rs", text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("daemon/src/supervisor/mod.rs:3: use crate::proxy::Proxy;"),
            "{found:?}"
        );
        assert!(found[0].ends_with("supervisor may use ground, process, only proxy::handle; this is proxy"));
    }

    #[test]
    fn items_of_main_are_of_the_app() {
        let found = with("daemon/src/process/launch.rs", "fn f() { crate::run() }\n");
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_room_without_a_rule_is_found() {
        let found = with("daemon/src/cellar.rs", "");
        assert_eq!(found, ["daemon/src/cellar.rs:1: \n    rule: `cellar` is in no room: add it to rooms.rs"]);
    }

    #[test]
    fn every_allowed_room_exists() {
        let known: Vec<_> = ROOMS.iter().map(|(room, _)| *room).collect();
        assert!(ROOMS.iter().all(|(_, allowed)| allowed.iter().all(|room| known.contains(room))));
    }
}
