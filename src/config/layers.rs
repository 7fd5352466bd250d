//! The layers that settings come from: file < environment < flags. Here only names are judged;
//! what a value means is read in `reader.rs`.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use super::settings::{self, SETTINGS};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    /// The variable's name.
    Environment(String),
    /// The flag's name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One setting's text and origin; an empty text is an absent value. No `Debug`: it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Value {
    pub text: String,
    pub source: Source,
}

/// What was typed: nothing of it judged yet. No `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct Sources {
    /// Path and content of the configuration file.
    pub file: Option<(PathBuf, String)>,
    /// All environment variables; those that do not begin with `QUOTAD_` are passed over.
    pub env: Vec<(String, String)>,
    /// Setting and value of each flag that was given.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Takes flags as given, the process's environment, and the file that either of them names.
    ///
    /// # Errors
    /// A sentence when the file cannot be read.
    pub fn of_process(flags: Vec<(&'static str, String)>) -> Result<Self, String> {
        let env: Vec<(String, String)> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        let named = |name: &str, all: &[(String, String)]| all.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let path = flags
            .iter()
            .find(|(key, _)| *key == "config")
            .map(|(_, path)| path.clone())
            .or_else(|| named("QUOTAD_CONFIG", &env))
            .filter(|path| !path.is_empty());
        let file = match path {
            Some(path) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("the configuration file {path} cannot be read: {error}"))?;
                Some((PathBuf::from(path), text))
            }
            None => None,
        };
        Ok(Self { file, env, flags })
    }
}

/// The effective text of every setting, in the order of [`SETTINGS`].
#[derive(Clone)]
pub struct Layers(BTreeMap<&'static str, Value>);

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::report(self))
    }
}

impl Layers {
    /// Lays the sources over the defaults.
    ///
    /// # Errors
    /// One sentence per unknown name, and for a file that is no flat TOML.
    pub fn merge(sources: &Sources) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut values: BTreeMap<&'static str, Value> = SETTINGS
            .iter()
            .map(|setting| (setting.key, Value { text: setting.default.to_owned(), source: Source::Default }))
            .collect();
        if let Some((path, content)) = &sources.file {
            read_file(path, content, &mut values, &mut problems);
        }
        read_environment(&sources.env, &mut values, &mut problems);
        for (key, text) in &sources.flags {
            let flag = settings::find(key).and_then(settings::Setting::flag).unwrap_or_default();
            values.insert(key, Value { text: text.clone(), source: Source::Flag(flag) });
        }
        if problems.is_empty() { Ok(Self(values)) } else { Err(problems) }
    }

    /// The effective value of a setting of [`SETTINGS`].
    ///
    /// # Panics
    /// When the key is no setting: a mistake in this program, found by any test that loads settings.
    #[must_use]
    pub fn value(&self, key: &str) -> &Value {
        &self.0[key]
    }
}

fn read_file(path: &Path, content: &str, values: &mut BTreeMap<&'static str, Value>, problems: &mut Vec<String>) {
    let place = path.display();
    let table = match content.parse::<toml::Table>() {
        Ok(table) => table,
        Err(error) => {
            problems.push(format!("{place} is no TOML: {}", error.to_string().trim_end()));
            return;
        }
    };
    for (name, value) in table {
        let Some(setting) = settings::find(&name).filter(|setting| setting.key != "config") else {
            problems.push(format!("{place} has the unknown setting `{name}`{}", suggestion(&name)));
            continue;
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
                problems.push(format!("{place}: `{name}` must be a string, a whole number, true or false"));
                continue;
            }
        };
        values.insert(setting.key, Value { text, source: Source::File(path.to_owned()) });
    }
}

/// An empty variable counts as not set: that is how compose files and unit files pass "nothing".
fn read_environment(env: &[(String, String)], values: &mut BTreeMap<&'static str, Value>, problems: &mut Vec<String>) {
    for (name, text) in env {
        let Some(rest) = name.strip_prefix("QUOTAD_") else { continue };
        // No setting: it says which mutant a fault test runs.
        if cfg!(feature = "faults") && rest == "MUTANT" {
            continue;
        }
        let key = rest.to_ascii_lowercase();
        match settings::find(&key).filter(|setting| setting.env() == *name) {
            Some(_) if text.is_empty() => {}
            Some(setting) => {
                let source = Source::Environment(name.clone());
                values.insert(setting.key, Value { text: text.clone(), source });
            }
            None => {
                let hint = suggestion(&key).to_ascii_uppercase().replace("DID YOU MEAN `", "did you mean `QUOTAD_");
                problems.push(format!("the environment has the unknown setting `{name}`{hint}"));
            }
        }
    }
}

/// `; did you mean …?` when a setting is at most two edits away.
fn suggestion(name: &str) -> String {
    SETTINGS
        .iter()
        .map(|setting| (edits(name, setting.key), setting.key))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map_or_else(String::new, |(_, key)| format!("; did you mean `{key}`?"))
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
