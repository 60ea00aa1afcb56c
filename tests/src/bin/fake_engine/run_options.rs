//! The options of `run`, as far as the tests use them.

/// The options of one `run`.
#[derive(Debug, Default)]
pub struct RunOptions {
    pub labels: Vec<String>,
    pub cidfile: Option<String>,
    pub name: Option<String>,
    pub auto_remove: bool,
    pub interactive: bool,
    pub detach: bool,
    /// What the container runs; the name of the image before it is ignored.
    pub command: Vec<String>,
}

impl RunOptions {
    /// `None` if there is an unknown option, or no command.
    pub fn parse(args: &[String]) -> Option<Self> {
        let mut options = Self::default();
        let mut args = args.iter().cloned();
        loop {
            match args.next()?.as_str() {
                "--label" => options.labels.push(args.next()?),
                "--cidfile" => options.cidfile = Some(args.next()?),
                "--name" => options.name = Some(args.next()?),
                "-e" | "-p" => drop(args.next()?),
                "--rm" => options.auto_remove = true,
                "-i" => options.interactive = true,
                "-d" => options.detach = true,
                option if option.starts_with('-') => return None,
                _image => break,
            }
        }
        options.command = args.collect();
        (!options.command.is_empty()).then_some(options)
    }
}
