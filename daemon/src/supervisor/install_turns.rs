//! First starts through `npx` and the like run one after another: their caches are not safe for parallel installs, and a
//! cache that broke stays broken (R-STDIO-7). Pure.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;

use mcpd_common::config::Program;
use mcpd_common::ids::Slot;

/// Programs that install what they run, and the word that makes them do so.
const INSTALLERS: [(&str, Option<&str>); 7] = [
    ("npx", None),
    ("bunx", None),
    ("uvx", None),
    ("pnpm", Some("dlx")),
    ("yarn", Some("dlx")),
    ("npm", Some("exec")),
    ("pipx", Some("run")),
];

/// Whether the first start of this program may install something.
pub fn installs(program: &Program) -> bool {
    let Program::Command(command) = program else { return false };
    let mut words = command.iter().map(ToString::to_string);
    let first = words.next().unwrap_or_default();
    let name = Path::new(&first).file_name().unwrap_or_default();
    let second = words.next();
    INSTALLERS
        .iter()
        .any(|(installer, word)| name == *installer && (word.is_none() || second.as_deref() == *word))
}

/// Who installs, and who waits.
#[derive(Debug, Default)]
pub struct InstallTurns {
    installing: Option<Slot>,
    waiting: VecDeque<Slot>,
    /// Their first start succeeded.
    installed: BTreeSet<Slot>,
}

impl InstallTurns {
    /// Whether a worker that installs may start now; otherwise it waits for its turn.
    pub fn may_start(&mut self, slot: Slot) -> bool {
        if self.installed.contains(&slot) || *self.installing.get_or_insert(slot) == slot {
            return true;
        }
        if !self.is_waiting(slot) {
            self.waiting.push_back(slot);
        }
        false
    }

    pub fn is_waiting(&self, slot: Slot) -> bool {
        self.waiting.contains(&slot)
    }

    /// The worker is not starting any more: returns whose turn it is then.
    pub fn start_is_over(&mut self, slot: Slot, is_ready: bool) -> Option<Slot> {
        self.waiting.retain(|waiting| *waiting != slot);
        if is_ready {
            self.installed.insert(slot);
        }
        if self.installing != Some(slot) {
            return None;
        }
        self.installing = self.waiting.pop_front();
        self.installing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn installers_are_known() {
        let is_known =
            |command: &str| installs(&Program::Command(command.split(' ').map(Into::into).collect()));
        for command in ["npx -y x", "/usr/bin/uvx x", "pnpm dlx x", "bunx x"] {
            assert!(is_known(command), "{command}");
        }
        for command in ["node x", "pnpm start", "npxy x", "sh -c npx"] {
            assert!(!is_known(command), "{command}");
        }
        assert!(!installs(&Program::BuiltIn));
    }

    proptest! {
        /// At most one first start at a time, no worker waits for ever, and those that are installed never wait.
        #[test]
        fn first_starts_do_not_overlap(steps in proptest::collection::vec((0u16..4, any::<bool>(), any::<bool>()), 0..60)) {
            let mut turns = InstallTurns::default();
            let mut starting = BTreeSet::new();
            let mut installed = BTreeSet::new();
            for (slot, begins, is_ready) in steps {
                let slot = Slot(slot);
                if begins && !starting.contains(&slot) && !turns.is_waiting(slot) {
                    let may = turns.may_start(slot);
                    prop_assert!(may || !installed.contains(&slot));
                    if may { starting.insert(slot); }
                } else if !begins {
                    if starting.remove(&slot) && is_ready { installed.insert(slot); }
                    starting.extend(turns.start_is_over(slot, is_ready && installed.contains(&slot)));
                }
                prop_assert!(starting.iter().filter(|slot| !installed.contains(slot)).count() <= 1);
            }
            while let Some(slot) = starting.pop_first() {
                starting.extend(turns.start_is_over(slot, false));
            }
            prop_assert!(turns.waiting.is_empty());
        }
    }
}
