//! Colours of the output, where they are wanted.

use std::env;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What a piece of text means; the palette turns it into a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
    /// Secondary information.
    Dim,
    /// Headings.
    Strong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// No colours.
    Plain,
    /// ANSI escape sequences.
    Ansi,
}

impl Palette {
    /// Decides by `--color`, `NO_COLOR`, `TERM` and whether the standard output is a terminal (R-CLI-1).
    pub fn choose(choice: ColorChoice) -> Self {
        let wanted = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
                std::io::stdout().is_terminal() && !no_color && !is_dumb
            }
        };
        if wanted { Self::Ansi } else { Self::Plain }
    }

    pub fn paint(self, text: &str, tone: Tone) -> String {
        if self == Self::Plain || tone == Tone::Plain || text.is_empty() {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
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
    fn only_the_ansi_palette_adds_escape_sequences() {
        assert_eq!(Palette::Plain.paint("x", Tone::Bad), "x");
        assert_eq!(Palette::Ansi.paint("x", Tone::Good), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(Palette::choose(ColorChoice::Never), Palette::Plain);
        assert_eq!(Palette::choose(ColorChoice::Always), Palette::Ansi);
    }
}
