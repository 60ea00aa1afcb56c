//! Compares the schema with the parser.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use boon::{Compiler, SchemaIndex, Schemas};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Form, Key, KeyDefault, Kind, Table, schema, tables};
use crate::config::{Config, LoadError, Source, init, peek};

/// The schema, as an editor uses it.
struct Editor {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Editor {
    fn new() -> Self {
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("mcpd.json", schema()).expect("a resource");
        let index = compiler.compile("mcpd.json", &mut schemas).expect("a valid schema");
        Self { schemas, index }
    }

    /// Why the schema refuses the text.
    fn refusal(&self, text: &str) -> Option<String> {
        let value: toml::Value = toml::from_str(text).expect(text);
        self.schemas.validate(&as_json(value), self.index).err().map(|error| error.to_string())
    }
}

fn as_json(value: toml::Value) -> Value {
    match value {
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, as_json(value))).collect(),
        toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(_) => Value::Null,
    }
}

/// What the parser makes of the text. A worker that can't be started is no reason to refuse the configuration.
fn parse(text: &str) -> Result<Config, String> {
    let source =
        Source::Text { name: "config.toml".to_owned(), text: text.to_owned(), base: "/nowhere".into() };
    match peek(source, &|_| None) {
        Ok(loaded) => Ok(loaded.config),
        Err(LoadError::Problems(problems)) => {
            Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
        Err(other) => panic!("{other}"),
    }
}

/// A configuration with this value under the key, and what else the table needs.
fn with_value(table: &Table, key: &str, value: &str) -> String {
    format!("{}{key} = {value}\n", without_key(table, key))
}

fn without_key(table: &Table, key: &str) -> String {
    let needed: &[(&str, &str)] = match table.key {
        // Without a transport, a command without {port} is refused.
        "workers" => &[("repo", "\".\""), ("transport", "\"http\"")],
        "defaults" => &[("transport", "\"http\"")],
        "resources" if key == "path" => &[("check", "[\"true\"]")],
        "resources" => &[("path", "\"x\"")],
        _ => &[],
    };
    let header = table.header().replace("NAME", "a");
    let needed = needed.iter().filter(|(name, _)| *name != key);
    let needed: String = needed.map(|(name, value)| format!("{name} = {value}\n")).collect();
    // A worker, to which the defaults apply.
    let worker = if table.key == "defaults" { "[workers.w]\nrepo = \".\"\n" } else { "" };
    format!("{worker}{header}\n{needed}")
}

/// The keys that the parser knows in this table: it lists them when it refuses one that resembles none.
fn keys_of_parser(table: &Table) -> BTreeSet<String> {
    let refusal = parse(&with_value(table, "qqqqqqqqqqqqqqqqqqqq", "1")).expect_err("an unknown key");
    let (_, known) = refusal.split_once("known keys: ").expect("the known keys");
    known.lines().next().unwrap_or_default().split(", ").map(str::to_owned).collect()
}

#[test]
fn the_schema_has_the_keys_that_the_parser_knows() {
    let tables = tables();
    for table in &tables {
        let mut keys: BTreeSet<_> = table.keys.iter().map(|key| key.name.to_owned()).collect();
        if table.form == Form::Top {
            keys.extend(tables.iter().map(|table| table.key.to_owned()).filter(|key| !key.is_empty()));
        }
        assert_eq!(keys, keys_of_parser(table), "{}", table.header());
    }
}

#[test]
fn unknown_keys_are_refused_by_schema_and_parser() {
    let editor = Editor::new();
    for table in tables() {
        let text = with_value(&table, "prot", "1");
        assert!(editor.refusal(&text).is_some(), "{text}");
        assert!(parse(&text).is_err(), "{text}");
    }
}

/// Values of every type; many of them are right for some keys and wrong for others.
const VALUES: [&str; 58] = [
    "true",
    "0",
    "1",
    "-1",
    "1.5",
    "0.0",
    "-0.5",
    "86400",
    "86401",
    "65535",
    "65536",
    "inf",
    "1979-05-27",
    "\"\"",
    "\" \"",
    "\"x\"",
    "\"x y\"",
    "\"10s\"",
    "\" 1m 30s \"",
    "\"500ms\"",
    "\"2 minutes\"",
    "\"1h, 5m\"",
    "\"0.5s\"",
    "\"PT10S\"",
    "\"00:01:30\"",
    "\"1d\"",
    "\"-3s\"",
    "\"10\"",
    "\"soon\"",
    "\"own\"",
    "\"any\"",
    "\"always\"",
    "\"on-failure\"",
    "\"never\"",
    "\"keep\"",
    "\"forget\"",
    "\"http\"",
    "\"direct\"",
    "\"stdio\"",
    "\"tcp\"",
    "\"none\"",
    "\"http:/health?x=1\"",
    "\"http:health\"",
    "\"http:/a b\"",
    "\"https:/health\"",
    "\"/shutdown\"",
    "\"/shut#down\"",
    "[]",
    "[\"x\"]",
    "[\"x\", \"\", \"y\"]",
    "[\"\"]",
    "[1]",
    "[\"x\", 1]",
    "[\"x\", \"a\\u0000b\"]",
    "{}",
    "{ A = \"1\" }",
    "{ A = 1 }",
    "{ \"A=B\" = \"1\" }",
];

#[test]
fn schema_and_parser_accept_the_same_values() {
    let editor = Editor::new();
    for table in tables() {
        for key in &table.keys {
            let mut accepted = 0;
            for value in VALUES {
                let text = with_value(&table, key.name, value);
                let by_parser = parse(&text);
                let by_schema = editor.refusal(&text);
                assert_eq!(by_parser.is_ok(), by_schema.is_none(), "{text}\n{by_parser:?}\n{by_schema:?}");
                accepted += usize::from(by_schema.is_none());
            }
            assert!(accepted > 0 && accepted < VALUES.len(), "{} in {}", key.name, table.header());
        }
    }
}

/// Also a value that is added to the parser alone would be found: it lists all of them.
#[test]
fn the_parser_names_the_texts_of_the_schema() {
    for table in tables() {
        for key in &table.keys {
            let Kind::Choice(choices) = &key.kind else { continue };
            let texts: Vec<_> = choices.iter().map(|choice| format!("\"{}\"", choice.text)).collect();
            let refusal = parse(&with_value(&table, key.name, "\"other\"")).expect_err("an unknown text");
            assert!(refusal.ends_with(&texts.join(" or ")), "{refusal}");
            assert!(choices.iter().all(|choice| !choice.meaning.is_empty()));
        }
    }
}

#[test]
fn the_defaults_are_those_of_the_parser() {
    for table in tables() {
        for key in &table.keys {
            let KeyDefault::Value(default) = &key.default else { continue };
            let omitted = parse(&without_key(&table, key.name)).expect("good");
            let written = parse(&with_value(&table, key.name, &default.to_string())).expect("good");
            assert_eq!(comparable(written), comparable(omitted), "{} in {}", key.name, table.header());
        }
    }
}

/// An empty table of variables is equal to none.
fn comparable(config: Config) -> String {
    let variables: Vec<_> =
        config.workers.values().map(|worker| format!("{:?}", worker.env.read().variables)).collect();
    format!("{variables:?} {config:?}")
}

#[test]
fn names_and_empty_resources_are_refused_by_both() {
    let editor = Editor::new();
    for text in [
        "[workers.Alpha]\nrepo = \".\"\n",
        "[workers.\"\"]\nrepo = \".\"\n",
        "[workers.-a]\nrepo = \".\"\n",
        "[resources.a]\ntimeout = 1\n",
        "[resources.a]\n",
        "workers = []\n",
        "[[workers]]\nrepo = \".\"\n",
        "shutdown = 1\n",
        "[workers]\na = \".\"\n",
    ] {
        assert!(editor.refusal(text).is_some(), "the schema accepts {text}");
        assert!(parse(text).is_err(), "the parser accepts {text}");
    }
    for text in ["", "[workers.1_a-b]\nrepo = \".\"\n", "[resources.\"A b\"]\npath = \"x\"\n", "[workers]\n"]
    {
        assert_eq!(editor.refusal(text), None, "{text}");
        parse(text).expect(text);
    }
}

/// The blocks of TOML in the documentation, and what `mcpd init` prints.
#[test]
fn the_examples_of_this_repository_are_valid() {
    let editor = Editor::new();
    let init = init::render(&[PathBuf::from("/nowhere")]);
    assert_eq!(editor.refusal(&init), None);
    let mut examples = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).expect("readable");
        for example in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let refusal = editor.refusal(example);
            // A part of a configuration: the rest of the worker is left out.
            let is_part =
                refusal.as_ref().is_some_and(|refusal| refusal.contains("missing properties 'repo'"));
            assert!(refusal.is_none() || is_part, "{}: {refusal:?}\n{example}", file.display());
            examples += 1;
        }
    }
    assert!(examples >= 2, "{examples} examples");
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("below the workspace");
    let docs = std::fs::read_dir(root.join("docs")).expect("docs");
    let docs = docs.map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root.join("README.md")]).collect()
}

/// Every description is a sentence, and code in it is closed.
#[test]
fn every_key_is_described() {
    for table in tables() {
        for text in table.keys.iter().map(Key::description).chain([table.meaning.to_owned()]) {
            assert!(text.ends_with('.') && text.len() > 15, "{text}");
            assert_eq!(text.matches('`').count() % 2, 0, "{text}");
        }
    }
}

proptest! {
    /// An editor must not mark what mcpd accepts.
    #[test]
    fn every_duration_that_the_parser_accepts_is_valid(parts in proptest::collection::vec(proptest::sample::select(vec![
        "1", "10", "0.5", "1,5", ".5", " ", "  ", ",", "h", "m", "s", "ms", "us", "µs", "μs", "ns", "hrs", "mins", "secs",
        "msecs", "usecs", "micros", "nanos", "hours", "minute", "second", "milliseconds", "d", "PT", "pt", "P", "T", "H",
        "M", "S", ":", "01", "+", "-", "ago", "e3", "\t",
    ]), 1..6)) {
        let duration = parts.concat();
        if crate::config::duration::from_text(&duration).is_ok() {
            let instance = json!({ "shutdown": { "clients": duration } });
            let editor = Editor::new();
            let refusal = editor.schemas.validate(&instance, editor.index).err().map(|error| error.to_string());
            prop_assert_eq!(refusal, None);
        }
    }
}
