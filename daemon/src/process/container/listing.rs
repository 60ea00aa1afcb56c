//! What the engines print about containers. Pure.

use std::fmt;

/// For `ps --format`. The first word distinguishes a container from a warning of the engine.
pub const FORMAT: &str = "mcpd-container {{.ID}} {{.Names}} {{.State}}";
const FIRST_WORD: &str = "mcpd-container";
/// Characters of an id that are shown.
const SHOWN_ID: usize = 12;

/// A container, as its engine lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has processes, or may have some.
    Alive,
    /// It has no process: it has not started yet, or has exited.
    Stopped,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id: String = self.id.chars().take(SHOWN_ID).collect();
        write!(f, "{} ({id})", self.name)
    }
}

/// The containers in the output of `ps --format` [`FORMAT`].
pub fn parse(output: &str) -> Vec<Container> {
    output.lines().filter_map(container).collect()
}

fn container(line: &str) -> Option<Container> {
    let mut words = line.strip_prefix(FIRST_WORD)?.split_whitespace();
    let id = words.next().filter(|id| is_id(id))?;
    let name = words.next()?;
    let state = words.next().unwrap_or_default();
    Some(Container { id: id.to_owned(), name: name.to_owned(), state: State::of(state) })
}

impl State {
    /// Docker prints `running`, `exited`; older versions of podman print `Up 2 seconds ago`, `Exited (0) ...`.
    fn of(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "exited" | "stopped" | "dead" | "created" | "configured" | "removing" => Self::Stopped,
            _ => Self::Alive,
        }
    }
}

/// Whether this can be the id of a container: nothing else is passed to an engine.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// "alpha (0123456789ab), beta (ba9876543210)"
pub fn names(containers: &[Container]) -> String {
    containers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_engines_are_understood() {
        let output = "WARNING: something\n\
            mcpd-container 7dc707d0244e9db5 recursing_volhard Up 1 second ago\n\
            mcpd-container aa eager_kim running\n\
            mcpd-container bb old Exited (0) 3 seconds ago\n\
            mcpd-container cc done exited\n\
            mcpd-container dd new created\n\
            mcpd-container ee busy Stopping\n\
            mcpd-container --force x running\n\
            mcpd-container\n";
        let found = parse(output);
        let states: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.state)).collect();
        assert_eq!(
            states,
            [
                ("recursing_volhard", State::Alive),
                ("eager_kim", State::Alive),
                ("old", State::Stopped),
                ("done", State::Stopped),
                ("new", State::Stopped),
                ("busy", State::Alive),
            ]
        );
        assert_eq!(found[0].to_string(), "recursing_volhard (7dc707d0244e)");
    }

    proptest! {
        #[test]
        fn an_id_is_never_an_option(output in "(mcpd-container )?[-a-f0-9 =\n]{0,60}") {
            for container in parse(&output) {
                prop_assert!(!container.id.starts_with('-'));
            }
        }
    }
}
