//! The scripts: composed at start from the files in `lua/`, named by the SHA-1 of their text. A line
//! `-- include lib/xyz` is replaced by that file, once per script; a cycle is an error.

use std::fmt::Write as _;

use sha1::{Digest as _, Sha1};

macro_rules! sources {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../lua/", $name, ".lua")))),*]
    };
}

/// Every file under `lua/`, by its name without `.lua`.
const SOURCES: &[(&str, &str)] = sources![
    "adjust",
    "cascade",
    "charge",
    "due",
    "expire",
    "extend",
    "heads",
    "hydrate",
    "lease",
    "lib/admit",
    "lib/answer",
    "lib/append",
    "lib/calls",
    "lib/changed",
    "lib/clock",
    "lib/deadline",
    "lib/deltas",
    "lib/ended",
    "lib/entry",
    "lib/gauges",
    "lib/groups",
    "lib/head",
    "lib/known",
    "lib/open",
    "lib/queued",
    "lib/record",
    "lib/refs",
    "lib/roll",
    "lib/shown",
    "lib/touch",
    "mend",
    "policy",
    "queue_holds",
    "read_account",
    "read_record",
    "redo",
    "refund",
    "release",
    "reserve",
    "reset",
    "restore",
    "set_meta",
    "settle",
    "undo",
    "unload",
    "wipe",
];

/// Scripts that carry many calls ([`super::share`]); each counts as the place of its load.
pub(super) const SHARED: [&str; 4] = ["reserve", "settle", "release", "charge"];

/// Why a script cannot be composed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    #[error("there is no Lua file `{0}`")]
    Missing(String),
    #[error("Lua files include each other: {0}")]
    Cycle(String),
}

/// A script ready to be called.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// SHA-1 of the text in hex, as `EVALSHA` wants it.
    pub(crate) sha: String,
    /// Its place among those that are shared.
    pub(crate) shared: Option<usize>,
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        /// All scripts.
        #[derive(Clone, Debug)]
        pub(crate) struct Scripts {
            $(pub(crate) $name: Script,)*
        }

        impl Scripts {
            /// # Errors
            /// [`ComposeError`] when a file includes what is not there, or itself.
            pub(crate) fn compose() -> Result<Self, ComposeError> {
                Ok(Self { $($name: Script::compose(stringify!($name))?,)* })
            }

            pub(crate) fn all(&self) -> impl Iterator<Item = &Script> {
                [$(&self.$name),*].into_iter()
            }
        }
    };
}

scripts![
    reserve,
    settle,
    release,
    extend,
    charge,
    refund,
    adjust,
    reset,
    expire,
    policy,
    hydrate,
    due,
    cascade,
    queue_holds,
    read_account,
    read_record,
    set_meta,
    lease,
    undo,
    mend,
    unload,
    heads,
    redo,
    restore,
    wipe,
];

impl Script {
    fn compose(name: &'static str) -> Result<Self, ComposeError> {
        let text = compose(name, SOURCES)?;
        let sha = Sha1::digest(text.as_bytes()).iter().fold(String::with_capacity(40), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let shared = SHARED.iter().position(|shared| *shared == name);
        Ok(Self { name, text, sha, shared })
    }
}

/// One script's text with its includes put in.
pub(crate) fn compose(name: &str, sources: &[(&str, &str)]) -> Result<String, ComposeError> {
    let mut composer = Composer { sources, open: Vec::new(), done: Vec::new(), text: String::new() };
    composer.include(name)?;
    Ok(composer.text)
}

struct Composer<'a> {
    sources: &'a [(&'a str, &'a str)],
    open: Vec<String>,
    done: Vec<String>,
    text: String,
}

impl Composer<'_> {
    fn include(&mut self, name: &str) -> Result<(), ComposeError> {
        if self.open.iter().any(|open| open == name) {
            return Err(ComposeError::Cycle(format!("{} → {name}", self.open.join(" → "))));
        }
        if self.done.iter().any(|done| done == name) {
            return Ok(());
        }
        let missing = || ComposeError::Missing(name.to_owned());
        let (_, source) = self.sources.iter().find(|(known, _)| *known == name).ok_or_else(missing)?;
        self.open.push(name.to_owned());
        for line in source.lines() {
            match line.trim_start().strip_prefix("-- include ") {
                Some(file) => self.include(file.trim())?,
                None => {
                    self.text.push_str(line);
                    self.text.push('\n');
                }
            }
        }
        self.done.extend(self.open.pop());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_composes_and_nothing_is_left_to_include() {
        let scripts = Scripts::compose().unwrap();
        assert!(scripts.settle.text.starts_with("#!lua flags=allow-oom\n"));
        assert!(scripts.settle.text.contains("redis.sha1hex"), "lib/append is in it");
        assert!(!scripts.settle.text.contains("-- include"));
        assert_eq!(scripts.settle.sha.len(), 40);
        let verbs: Vec<&str> = SOURCES.iter().map(|(name, _)| *name).filter(|name| !name.starts_with("lib/")).collect();
        let mut all: Vec<&str> = scripts.all().map(|script| script.name).collect();
        all.sort_unstable();
        assert_eq!(all, verbs, "every file that is no helper is a script");
    }

    #[test]
    fn the_scripts_that_are_shared_are_those_that_run_calls() {
        let scripts = Scripts::compose().unwrap();
        let run_calls = scripts.all().filter(|script| script.text.contains("\nreturn calls("));
        let mut names: Vec<&str> = run_calls.map(|script| script.name).collect();
        names.sort_unstable_by_key(|name| SHARED.iter().position(|shared| shared == name));
        assert_eq!(names, SHARED);
    }

    #[test]
    fn a_file_is_included_once() {
        let sources =
            [("verb", "-- include lib/a\n  -- include lib/b\nverb"), ("lib/a", "-- include lib/b\na"), ("lib/b", "b")];
        assert_eq!(compose("verb", &sources).unwrap(), "b\na\nverb\n");
    }

    #[test]
    fn a_cycle_and_a_missing_file_are_errors() {
        let sources = [("a", "-- include b"), ("b", "-- include c"), ("c", "-- include a"), ("d", "-- include e")];
        assert_eq!(compose("a", &sources), Err(ComposeError::Cycle("a → b → c → a".into())));
        assert_eq!(compose("d", &sources), Err(ComposeError::Missing("e".into())));
    }

    #[test]
    fn every_script_is_measured_by_its_name() {
        for (name, _) in SOURCES.iter().filter(|(name, _)| !name.starts_with("lib/")) {
            assert!(crate::metrics::SCRIPTS.contains(name), "{name}");
        }
    }

    #[test]
    fn every_lua_file_is_known() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
        let mut files = Vec::new();
        for (folder, prefix) in [(root.clone(), ""), (root.join("lib"), "lib/")] {
            for file in std::fs::read_dir(folder).unwrap() {
                let name = file.unwrap().file_name().into_string().unwrap();
                files.extend(name.strip_suffix(".lua").map(|stem| format!("{prefix}{stem}")));
            }
        }
        files.sort();
        assert_eq!(files, SOURCES.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }
}
