//! Reads the options of `docker` and `podman` as their own parsers do: `--name VALUE`, `--name=VALUE`, `-it`,
//! `-p80:80`.

/// Global options that are followed by a value.
const DOCKER_GLOBALS: [&str; 10] =
    ["config", "c", "context", "H", "host", "l", "log-level", "tlscacert", "tlscert", "tlskey"];
const PODMAN_GLOBALS_WITHOUT_VALUE: [&str; 10] =
    ["help", "h", "noout", "r", "remote", "syslog", "trace", "transient-store", "v", "version"];
/// Options of `run` without a value, of both engines; all others have one.
const RUN_FLAGS: [&str; 30] = [
    "d",
    "detach",
    "disable-content-trust",
    "env-host",
    "help",
    "http-proxy",
    "i",
    "init",
    "interactive",
    "no-healthcheck",
    "no-hostname",
    "no-hosts",
    "oom-kill-disable",
    "P",
    "passwd",
    "privileged",
    "publish-all",
    "q",
    "quiet",
    "read-only",
    "read-only-tmpfs",
    "replace",
    "rm",
    "rmi",
    "rootfs",
    "sig-proxy",
    "t",
    "tls-verify",
    "tty",
    "use-api-socket",
];

/// The words of a command, read from left to right.
pub(super) struct Words<'a> {
    words: &'a [String],
    position: usize,
    /// Short flags of the last word that are not read yet: `t` after the `i` of `-it`.
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn after_program(words: &'a [String]) -> Self {
        Self { words, position: 1, rest: "" }
    }

    /// The number of words that were read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.position)?;
        self.position += 1;
        Some(word)
    }

    pub(super) fn skip_global_options(&mut self, engine: &str) {
        let has_value = |name: &str| match engine {
            "docker" => DOCKER_GLOBALS.contains(&name),
            _ => !PODMAN_GLOBALS_WITHOUT_VALUE.contains(&name),
        };
        while self.next_option(has_value).is_some() {}
    }

    /// The next option of `run`; `None` at the name of the image.
    pub(super) fn next_run_option(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        self.next_option(|name| !RUN_FLAGS.contains(&name))
    }

    /// The name of the next option without hyphens, and its value. Leaves the first word that is no option unread.
    fn next_option(&mut self, has_value: impl Fn(&str) -> bool) -> Option<(&'a str, Option<&'a str>)> {
        if !self.rest.is_empty() {
            return Some(self.short(has_value));
        }
        let word = self.words.get(self.position)?.as_str();
        if let Some(long) = word.strip_prefix("--") {
            self.position += 1;
            if long.is_empty() {
                // All words after "--" are operands.
                return None;
            }
            return Some(match long.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None if has_value(long) => (long, self.next()),
                None => (long, None),
            });
        }
        self.rest = word.strip_prefix('-').filter(|rest| !rest.is_empty())?;
        self.position += 1;
        Some(self.short(has_value))
    }

    fn short(&mut self, has_value: impl Fn(&str) -> bool) -> (&'a str, Option<&'a str>) {
        let first = self.rest.chars().next().map_or(0, char::len_utf8);
        let (name, rest) = self.rest.split_at(first);
        let value = rest.strip_prefix('=');
        if !has_value(name) && value.is_none() {
            self.rest = rest;
            return (name, None);
        }
        self.rest = "";
        let value = value.or(Some(rest).filter(|rest| !rest.is_empty()));
        (name, value.or_else(|| self.next()))
    }
}

/// The value of a flag: a flag without a value is on.
pub(super) fn is_true(value: Option<&str>) -> bool {
    value.is_none_or(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}
