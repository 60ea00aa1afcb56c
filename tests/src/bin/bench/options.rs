//! The command line.

/// What to measure, and how often.
#[derive(Debug)]
pub struct Options {
    /// Samples of each figure.
    pub repeat: usize,
    groups: Vec<String>,
}

impl Options {
    /// Reads the command line; `known` are all groups.
    pub fn parse(mut args: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut options = Self { repeat: 5, groups: Vec::new() };
        while let Some(word) = args.next() {
            match word.as_str() {
                "--repeat" => options.repeat = count(args.next())?,
                group if known.contains(&group) => options.groups.push(word),
                other => return Err(format!("\"{other}\" is neither an option nor a group of figures")),
            }
        }
        Ok(options)
    }

    /// Whether to measure this group. Without any group on the command line, all are measured.
    pub fn wants(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|named| named == group)
    }

    /// Takes the samples.
    pub fn samples(&self, mut measure: impl FnMut() -> f64) -> Vec<f64> {
        (0..self.repeat).map(|_| measure()).collect()
    }
}

fn count(text: Option<String>) -> Result<usize, String> {
    let number = text.and_then(|text| text.parse().ok()).filter(|number| (1..=100).contains(number));
    number.ok_or_else(|| "--repeat needs a number from 1 to 100".to_owned())
}
