//! The name of a worker that is given as a command only. Pure.

use std::path::Path;

/// Programs that run another one, and the words before its name.
const RUNNERS: [(&str, &[&str]); 12] = [
    ("npx", &[]),
    ("bunx", &[]),
    ("uvx", &[]),
    ("pnpm", &["dlx", "exec"]),
    ("npm", &["exec"]),
    ("uv", &["run", "tool"]),
    ("pipx", &["run"]),
    ("node", &[]),
    ("bun", &["run"]),
    ("deno", &["run"]),
    ("docker", &["run"]),
    ("podman", &["run"]),
];
/// Options of the runners that are followed by a value.
const WITH_VALUE: [&str; 10] =
    ["-p", "--package", "--from", "--with", "-e", "--env", "-v", "--volume", "--name", "--mount"];

/// What the command is called: its program, or what a runner like `npx` runs.
pub(super) fn name(command: &[String]) -> &str {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let file = file_name(program);
    let words = RUNNERS.iter().find(|(runner, _)| *runner == file).map(|(_, words)| *words);
    let is_python = file.starts_with("python");
    let words = words.or(is_python.then_some(&[][..]));
    let run = words.and_then(|words| first_operand(&command[1..], words, is_python));
    package(run.unwrap_or(file))
}

fn first_operand<'a>(arguments: &'a [String], words: &[&str], is_python: bool) -> Option<&'a str> {
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        if is_python && argument == "-m" {
            return arguments.next();
        }
        if WITH_VALUE.contains(&argument) {
            arguments.next();
        } else if !argument.starts_with('-') && !words.contains(&argument) {
            return Some(argument);
        }
    }
    None
}

/// Without scope, version and extension: `@scope/server@1.2` is `server`, `app/server.py` is `server`.
fn package(word: &str) -> &str {
    let last = telling_part(word);
    let without_version = last.split(['@', ':']).next().filter(|name| !name.is_empty()).unwrap_or(last);
    let stem = without_version
        .rsplit_once('.')
        .filter(|(_, ending)| ["py", "js", "mjs", "cjs", "ts", "sh"].contains(ending));
    stem.map_or(without_version, |(stem, _)| stem)
}

/// The last component that says something: of `server-time/dist/index.js` it is `server-time`.
fn telling_part(word: &str) -> &str {
    const SILENT: [&str; 10] =
        ["index", "main", "server", "app", "cli", "__main__", "dist", "build", "src", "bin"];
    let mut parts = word.rsplit('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
    let says_something = |part: &&str| !SILENT.contains(&part.split('.').next().unwrap_or_default());
    parts.find(says_something).unwrap_or_else(|| file_name(word))
}

fn file_name(word: &str) -> &str {
    Path::new(word).file_name().and_then(|name| name.to_str()).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_named_after_what_it_runs() {
        for (command, expected) in [
            ("npx -y @modelcontextprotocol/server-everything stdio", "server-everything"),
            ("npx -y @scope/server@1.2.3", "server"),
            ("uvx mcp-server-time --local-timezone=UTC", "mcp-server-time"),
            ("uvx --from mcp-tools mcp-time", "mcp-time"),
            ("uv run server.py", "server"),
            ("/usr/bin/python3.12 -u app/echo.py", "echo"),
            ("python -m mcp_server_git", "mcp_server_git"),
            ("docker run -i --rm -e KEY=1 mcp/time:latest", "time"),
            ("./my-server --stdio", "my-server"),
            ("npx", "npx"),
            ("node /x/server-time/dist/index.js stdio", "server-time"),
            ("node dist/index.js", "index"),
        ] {
            let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(name(&words), expected, "{command}");
        }
    }
}
