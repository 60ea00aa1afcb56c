//! Colours, for those who want them.

use std::env;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
    /// Of less weight.
    Dim,
    /// Of more weight.
    Strong,
}

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// No.
    Plain,
    /// Yes.
    Ansi,
}

impl Palette {
    /// What `--color`, the environment and the standard output ask for (R-CLI-1).
    pub fn choose(choice: ColorChoice) -> Self {
        let refused = |key| env::var_os(key).is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let wanted = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => std::io::stdout().is_terminal() && !refused("NO_COLOR") && !dumb,
        };
        if wanted { Self::Ansi } else { Self::Plain }
    }

    /// The text in this tone.
    pub fn paint(self, text: &str, tone: Tone) -> String {
        match (self, tone) {
            (Self::Plain, _) | (_, Tone::Plain) => text.to_owned(),
            (Self::Ansi, tone) if !text.is_empty() => {
                let style = tone.style();
                format!("{style}{text}{style:#}")
            }
            (Self::Ansi, _) => String::new(),
        }
    }
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warn => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R-CLI-1.
    #[test]
    fn a_plain_palette_adds_nothing() {
        assert_eq!(Palette::Plain.paint("x", Tone::Bad), "x");
        assert_eq!(Palette::Ansi.paint("x", Tone::Good), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Palette::choose(ColorChoice::Never), Palette::Plain);
        assert_eq!(Palette::choose(ColorChoice::Always), Palette::Ansi);
    }
}
