//! The variables of a worker. Its `env_file` is read again at each start, because people edit it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::env_file;
use super::placeholder::PortText;

/// Variables by name; of the placeholders only `{port}` is still open.
pub type Variables = BTreeMap<String, PortText>;

/// Where the variables come from.
#[derive(Clone, Default, PartialEq)]
pub struct WorkerEnv {
    layers: Vec<Layer>,
}

/// Variables that replace those of the same name in earlier layers.
#[derive(Clone, PartialEq)]
pub(super) enum Layer {
    /// `env_file`. A `PORT` in the file was written for running the server without mcpd.
    File { path: PathBuf, ignores_port: bool },
    /// Written in the configuration.
    Written(Vec<(String, PortText)>),
}

/// The variables, as far as they could be read.
pub struct ReadEnv {
    /// Those of a file that can't be used are missing.
    pub variables: Variables,
    /// Why the `env_file` can't be used. Contains no value.
    pub problem: Option<String>,
}

impl WorkerEnv {
    pub(super) fn push(&mut self, layer: Layer) {
        self.layers.push(layer);
    }

    /// The `env_file`.
    pub(super) fn file(&self) -> Option<&PathBuf> {
        self.layers
            .iter()
            .find_map(|layer| if let Layer::File { path, .. } = layer { Some(path) } else { None })
    }

    /// The variables that are written in the configuration.
    pub(super) fn written(&self) -> impl Iterator<Item = &(String, PortText)> {
        self.layers
            .iter()
            .filter_map(|layer| if let Layer::Written(written) = layer { Some(written) } else { None })
            .flatten()
    }

    /// Reads the `env_file`.
    pub fn read(&self) -> ReadEnv {
        let mut read = ReadEnv { variables: Variables::new(), problem: None };
        for layer in &self.layers {
            match layer {
                Layer::Written(written) => read.variables.extend(written.iter().cloned()),
                Layer::File { path, ignores_port } => match read_file(path) {
                    Ok(found) => read
                        .variables
                        .extend(found.into_iter().filter(|(name, _)| !(*ignores_port && name == "PORT"))),
                    Err(why) => read.problem = Some(format!("can't use env_file {}: {why}", path.display())),
                },
            }
        }
        read
    }
}

/// Values are often secrets: only names are shown.
impl fmt::Debug for WorkerEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for layer in &self.layers {
            match layer {
                Layer::File { path, .. } => drop(list.entry(path)),
                Layer::Written(written) => drop(list.entries(written.iter().map(|(name, _)| name))),
            }
        }
        list.finish()
    }
}

fn read_file(path: &std::path::Path) -> Result<Vec<(String, PortText)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let entries = env_file::parse(&text)?;
    Ok(entries.into_iter().map(|(name, value)| (name, PortText::from(value.as_str()))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_no_value_is_shown() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(".env");
        let mut env = WorkerEnv::default();
        env.push(Layer::Written(vec![("PORT".to_owned(), "1".into()), ("A".to_owned(), "written".into())]));
        env.push(Layer::File { path: path.clone(), ignores_port: true });
        let missing = env.read();
        assert!(missing.problem.is_some_and(|problem| problem.contains("can't use env_file")));
        assert_eq!(missing.variables["A"].to_string(), "written");
        for value in ["one", "two"] {
            std::fs::write(&path, format!("A={value}\nPORT=3000\n")).expect("written");
            let read = env.read();
            assert_eq!(read.problem, None);
            assert_eq!(
                [&read.variables["A"], &read.variables["PORT"]].map(ToString::to_string),
                [value, "1"]
            );
        }
        let shown = format!("{env:?}");
        assert!(shown.contains("\"A\"") && !shown.contains("written"), "{shown}");
    }
}
