//! The manual page of a program, from its command line.

use clap::{Arg, Command};

use super::roff::Page;

/// The sections of each page, in this order.
pub const SECTIONS: [&str; 10] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "COMMANDS",
    "EXIT STATUS",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
    "SEE ALSO",
];

/// What the command line does not say.
pub struct Rest<'a> {
    /// After the description.
    pub description: &'a [&'a str],
    /// A command, and what it does.
    pub examples: &'a [(&'a str, &'a str)],
    pub exit_status: &'a [(String, String)],
    pub environment: &'a [(&'a str, &'a str)],
    pub files: &'a [(&'a str, &'a str)],
    pub see_also: &'a str,
}

/// The page of this command in this section of the manual.
pub fn render(mut command: Command, section: u8, rest: &Rest) -> String {
    command.build();
    let about = about(&command);
    let (summary, _) = about.split_once("\n\n").unwrap_or((&about, ""));
    let name = command.get_name().to_owned();
    let mut page = Page::new(&name, section);
    page.section("NAME");
    page.paragraph(&format!("{name} - {}", summary.trim_end_matches('.')));
    page.section("SYNOPSIS");
    let usage = usages(&mut command);
    usage.iter().for_each(|usage| page.paragraph(&format!("`{usage}`")));
    page.section("DESCRIPTION");
    about.split("\n\n").chain(rest.description.iter().copied()).for_each(|text| page.paragraph(text));
    page.section("OPTIONS");
    options(&mut page, &command, |_| true);
    page.section("COMMANDS");
    commands(&mut page, &mut command);
    terms(&mut page, "EXIT STATUS", rest.exit_status.iter().map(|(code, text)| (&**code, &**text)));
    terms(&mut page, "ENVIRONMENT", rest.environment.iter().copied());
    terms(&mut page, "FILES", rest.files.iter().copied());
    page.section("EXAMPLES");
    for (line, meaning) in rest.examples {
        page.paragraph(meaning);
        page.code(line);
    }
    page.section("SEE ALSO");
    page.paragraph(rest.see_also);
    page.finish()
}

fn terms<'a>(page: &mut Page, section: &str, terms: impl Iterator<Item = (&'a str, &'a str)>) {
    page.section(section);
    terms.for_each(|(term, meaning)| page.term(term, meaning));
}

fn commands(page: &mut Page, command: &mut Command) {
    for child in command.get_subcommands_mut() {
        if child.get_name() == "help" || child.is_hide_set() {
            continue;
        }
        if child.has_subcommands() {
            commands(page, child);
            continue;
        }
        usages(child).iter().for_each(|usage| page.subsection(usage));
        about(child).split("\n\n").for_each(|text| page.paragraph(text));
        let aliases: Vec<_> = child.get_visible_aliases().collect();
        if !aliases.is_empty() {
            page.paragraph(&format!("Short form: `{}`.", aliases.join("`, `")));
        }
        options(page, child, |option| !option.is_global_set());
    }
}

fn options(page: &mut Page, command: &Command, is_shown: fn(&Arg) -> bool) {
    let shown = command.get_arguments().filter(|option| is_shown(option) && !option.is_hide_set());
    for option in shown.filter(|option| !matches!(option.get_id().as_str(), "help" | "version")) {
        let help = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
        page.term(&term(option), &format!("{help}{}.{}", default(option), values(option)));
    }
}

/// `-n, --lines N`, or the name of a positional argument.
fn term(option: &Arg) -> String {
    let short = option.get_short().map(|short| format!("-{short}"));
    let long = option.get_long().map(|long| format!("--{long}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let takes_value = option.get_num_args().is_some_and(|number| number.takes_values());
    let value = option.get_value_names().unwrap_or_default().join(" ");
    match (names.is_empty(), takes_value) {
        (true, _) => value,
        (false, false) => names.join(", "),
        (false, true) if option.is_require_equals_set() => format!("{}[={value}]", names.join(", ")),
        (false, true) => format!("{} {value}", names.join(", ")),
    }
}

fn default(option: &Arg) -> String {
    let takes_value = option.get_num_args().is_some_and(|number| number.takes_values());
    let defaults: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value && !defaults.is_empty() {
        format!(" [default: {}]", defaults.join(" "))
    } else {
        String::new()
    }
}

fn values(option: &Arg) -> String {
    let values: Vec<_> = option
        .get_possible_values()
        .iter()
        .filter(|value| option.get_action().takes_values() && !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({help})", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if values.is_empty() { String::new() } else { format!(" One of {}.", values.join(", ")) }
}

/// The paragraphs of its help, as sentences.
fn about(command: &Command) -> String {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let sentences: Vec<_> =
        about.split("\n\n").map(|text| format!("{}.", text.trim_end_matches('.'))).collect();
    sentences.join("\n\n")
}

fn usages(command: &mut Command) -> Vec<String> {
    let usage = command.render_usage().to_string();
    usage.trim_start_matches("Usage: ").lines().map(|line| line.trim().to_owned()).collect()
}
