//! Writes a manual page in the language of man(7). Texts are Markdown with code between backticks and nothing else.

/// Of the last change of the pages' form; their content is that of the version.
const DATE: &str = "2026-11-30";

const WIDTH: usize = 78;

/// A manual page that is being written.
pub struct Page(String);

impl Page {
    /// The page `name(section)`.
    pub fn new(name: &str, section: u8) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let name = escape(&name.to_uppercase());
        Self(format!(".TH \"{name}\" {section} {DATE} \"mcpd {version}\" \"mcpd\"\n.nh\n.ad l\n"))
    }

    pub fn section(&mut self, title: &str) {
        self.0.push_str(&format!(".SH \"{title}\"\n"));
    }

    pub fn subsection(&mut self, title: &str) {
        self.0.push_str(&format!(".SS \"{}\"\n", escape(title)));
    }

    pub fn paragraph(&mut self, text: &str) {
        self.gap();
        self.text(text);
    }

    /// A word or an option, and what it means below it.
    pub fn term(&mut self, term: &str, meaning: &str) {
        self.0.push_str(&format!(".TP\n\\fB{}\\fR\n", escape(term)));
        self.text(meaning);
    }

    /// Lines that stay as they are.
    pub fn code(&mut self, lines: &str) {
        self.gap();
        self.0.push_str(".in +4n\n.nf\n");
        for line in lines.lines() {
            self.line(&escape(line));
        }
        self.0.push_str(".fi\n.in\n");
    }

    pub fn finish(self) -> String {
        self.0
    }

    /// The first paragraph of a section needs no `.PP`.
    fn gap(&mut self) {
        let last = self.0.trim_end().lines().last().unwrap_or_default();
        if !last.starts_with(".SH") && !last.starts_with(".SS") {
            self.0.push_str(".PP\n");
        }
    }

    fn text(&mut self, text: &str) {
        let mut line = String::new();
        for word in with_fonts(text).split_whitespace() {
            if !line.is_empty() && line.len() + word.len() >= WIDTH {
                self.line(&std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&line);
    }

    /// A line that begins with a point or an apostrophe would be a command; an empty one, a gap.
    fn line(&mut self, line: &str) {
        if line.is_empty() || line.starts_with(['.', '\'']) {
            self.0.push_str("\\&");
        }
        self.0.push_str(line);
        self.0.push('\n');
    }
}

/// The titles of the sections of a page.
pub fn sections(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix(".SH \"")?.strip_suffix('"')).collect()
}

fn with_fonts(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts
        .map(|(index, part)| if index % 2 == 1 { format!("\\fB{}\\fR", escape(part)) } else { escape(part) })
        .collect()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '"' => escaped.push_str("\\(dq"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            '…' => escaped.push_str("..."),
            other => escaped.push(other),
        }
    }
    escaped
}
