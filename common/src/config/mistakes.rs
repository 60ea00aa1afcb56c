//! The first mistakes of everybody, each with the text to write instead. Pure.

use std::path::Path;

use crate::ids::Port;

const SHELLS: [&str; 6] = ["sh", "bash", "dash", "zsh", "ksh", "fish"];

/// Something that is valid and most likely not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// What in this command is probably not meant. `own_port` is the port that mcpd itself listens on, if it does.
pub(super) fn in_command(command: &[String], own_port: Option<Port>, home: Option<&str>) -> Vec<Mistake> {
    let words = command.iter().enumerate();
    words.flat_map(|(index, word)| in_word(word, is_script(command, index), own_port, home)).collect()
}

/// What in this variable is probably not meant.
pub(super) fn in_variable(name: &str, value: &str, own_port: Option<Port>) -> Option<Mistake> {
    let port = own_port.filter(|port| contains_number(value, *port))?;
    Some(Mistake {
        message: format!("the variable {name} contains {port}, the port that mcpd itself listens on"),
        help: "write {port}: the server gets another port, and mcpd forwards to it".to_owned(),
    })
}

/// The command as a list of words, for a command that was written as one text.
pub(super) fn as_list(key: &str, command: &str) -> String {
    let words: Vec<_> = command.split_whitespace().map(|word| format!("{word:?}")).collect();
    format!("write {key} = [{}]", words.join(", "))
}

fn in_word(word: &str, is_script: bool, own_port: Option<Port>, home: Option<&str>) -> Vec<Mistake> {
    let mut found = vec![];
    let mut add = |message: String, help: String| found.push(Mistake { message, help });
    if let Some(wrong) = ["{PORT}", "{Port}"].into_iter().find(|wrong| word.contains(wrong)) {
        add(format!("\"{word}\" contains {wrong}, which is no placeholder"), "write {port}".to_owned());
    }
    if let Some(port) = own_port.filter(|port| contains_number(word, *port)) {
        let help = "write {port}: the server gets another port, and mcpd forwards to it".to_owned();
        add(format!("\"{word}\" contains {port}, the port that mcpd itself listens on"), help);
    }
    if is_script {
        return found;
    }
    if let Some(wrong) = ["$PORT", "${PORT}"].into_iter().find(|wrong| word.contains(wrong)) {
        let help = "write {port}: there is no shell that expands variables".to_owned();
        add(format!("\"{word}\" contains {wrong}, which is not expanded"), help);
    }
    if let Some((wrong, rest)) = home_of(word) {
        let home = home.unwrap_or("/home/NAME");
        let help = format!("write the whole path ({home}{rest}): there is no shell that expands it");
        add(format!("\"{word}\" contains {wrong}, which is not expanded"), help);
    }
    found
}

/// What stands for the home directory in an argument, and what follows it.
fn home_of(word: &str) -> Option<(&'static str, &str)> {
    let value = word.rsplit_once('=').map_or(word, |(_, value)| value);
    if let Some(rest) = value.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Some(("~", rest));
    }
    let homes = ["${HOME}", "$HOME"].into_iter();
    homes.filter_map(|home| Some((home, word.split_once(home)?.1))).next()
}

/// Whether the word is the script of `sh -c SCRIPT`, in which a shell expands everything.
fn is_script(command: &[String], index: usize) -> bool {
    let program = command.first().map(Path::new).and_then(|program| program.file_name());
    let is_shell = program.is_some_and(|program| SHELLS.iter().any(|shell| program == *shell));
    let option = index.checked_sub(1).and_then(|before| command.get(before));
    is_shell && option.is_some_and(|option| option.starts_with('-') && option.ends_with('c'))
}

/// Whether the digits of the port stand in the text as a number of their own.
fn contains_number(text: &str, port: Port) -> bool {
    text.split(|it: char| !it.is_ascii_digit()).any(|number| number == port.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(command: &[&str]) -> Vec<String> {
        let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        let found = in_command(&command, Port::new(8082), Some("/home/kim"));
        found.into_iter().map(|mistake| format!("{}; {}", mistake.message, mistake.help)).collect()
    }

    #[test]
    fn each_mistake_has_the_text_to_write() {
        for (word, expected) in [
            ("--port={PORT}", "\"--port={PORT}\" contains {PORT}, which is no placeholder; write {port}"),
            (
                "$PORT",
                "\"$PORT\" contains $PORT, which is not expanded; write {port}: there is no shell that expands variables",
            ),
            (
                "--root=~/src",
                "\"--root=~/src\" contains ~, which is not expanded; write the whole path (/home/kim/src): there is no shell that expands it",
            ),
            (
                "${HOME}/x",
                "\"${HOME}/x\" contains ${HOME}, which is not expanded; write the whole path (/home/kim/x): there is no shell that expands it",
            ),
            (
                "127.0.0.1:8082",
                "\"127.0.0.1:8082\" contains 8082, the port that mcpd itself listens on; write {port}: the server gets another port, and mcpd forwards to it",
            ),
        ] {
            assert_eq!(found(&["server", word]), [expected]);
        }
    }

    #[test]
    fn what_is_meant_is_no_mistake() {
        assert_eq!(
            found(&["server", "--port", "{port}", "18082", "80820", "a~b", "~kim/x", "$PORTAL$"]).len(),
            1
        );
        assert!(found(&["sh", "-c", "cd ~/src && exec server --port $PORT --home $HOME"]).is_empty());
        assert!(found(&["bash", "-lc", "exec server $PORT"]).is_empty());
        assert!(in_variable("URL", "http://localhost:{port}/", Port::new(8082)).is_none());
        assert!(in_variable("PORT", "8082", Port::new(8082)).is_some());
    }

    #[test]
    fn a_command_in_one_text_is_shown_as_a_list() {
        assert_eq!(as_list("command", "uv run server.py"), r#"write command = ["uv", "run", "server.py"]"#);
    }
}
