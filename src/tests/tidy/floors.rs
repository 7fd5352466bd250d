//! Who may import whom. Only what is shipped counts: a room's tests may use what they like.

use super::source::Source;

/// For each room the rooms it may use, beside itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("quota", &[]),
    ("faults", &[]),
    ("metrics", &["quota"]),
    (FAULTS, &[]),
    ("engine", &["quota", "metrics"]),
    ("redis", &["quota", "engine", "metrics"]),
    ("sql", &["quota", "engine", "metrics", "faults"]),
    ("writeback", &["quota", "engine", "metrics", "faults"]),
    ("embedded", &["quota", "engine", "metrics"]),
    ("spool", &["engine", "metrics"]),
    ("http", &["quota", "engine", "metrics"]),
    ("config", &["quota", "engine", "embedded"]),
    (
        "app",
        &["faults", "quota", "metrics", "engine", "redis", "sql", "writeback", "embedded", "spool", "http", "config"],
    ),
    ("cli", &["config", "app"]),
];

/// Fail points and mutants stand wherever the fault tests need them.
const FAULTS: &str = "faults";

/// Sentences about imports that go upward or sideways.
pub fn violations(source: &Source) -> Vec<String> {
    let Some(inside) = source.name.strip_prefix("src/") else { return Vec::new() };
    let modules: Vec<&str> = inside.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let room = modules[0];
    let is_test = room == "tests" || modules.last().is_some_and(|last| last.ends_with("tests") || *last == "contract");
    if is_test || matches!(room, "lib" | "main") {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: the room `{room}` has no floor; tidy/floors.rs lists them", source.name)];
    };
    let code = shipped(&source.code);
    uses(code, modules.len())
        .into_iter()
        .filter(|(_, used)| used != room && used != FAULTS && !allowed.contains(&used.as_str()))
        .filter(|(_, used)| MAY_USE.iter().any(|(name, _)| name == used))
        .map(|(line, used)| format!("{}:{line}: `{room}` must not use `{used}`", source.name))
        .collect()
}

/// The code before the module of tests, which comes last.
fn shipped(code: &str) -> &str {
    code.match_indices("#[cfg(test)]")
        .find(|(at, mark)| {
            let after = code[at + mark.len()..].trim_start();
            after.starts_with("mod ") && after.split_once('\n').is_some_and(|(line, _)| line.trim_end().ends_with('{'))
        })
        .map_or(code, |(at, _)| &code[..at])
}

/// Line and room of every `crate::room`, also in braces, and of `super::` paths that reach the root
/// from `depth` modules below it.
fn uses(code: &str, depth: usize) -> Vec<(usize, String)> {
    let up = "super::".repeat(depth);
    let mut found = Vec::new();
    for root in ["crate::", up.as_str()] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with("super::") || code[..at].ends_with('$') {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            found.extend(heads(rest).into_iter().map(|(below, name)| (line + below, name)));
        }
    }
    found
}

/// The first names of a path or of the paths in its braces, with the lines passed on the way.
fn heads(rest: &str) -> Vec<(usize, String)> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    if !rest.starts_with('{') {
        return vec![(0, name(rest))];
    }
    let (mut depth, mut fresh, mut line, mut found) = (0, false, 0, Vec::new());
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '\n' => line += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(c, '{' | ',') {
            fresh = true;
        } else if fresh && (c.is_alphanumeric() || c == '_') {
            found.push((line, name(&rest[at..])));
            fresh = false;
        }
    }
    found
}

#[cfg(test)]
mod checks {
    use super::*;
    use crate::source::blank;

    fn said(name: &str, text: &str) -> String {
        let source = Source { name: name.to_owned(), text: text.to_owned(), code: blank(text) };
        violations(&source).join("\n")
    }

    #[test]
    fn upward_and_sideways_imports_are_found() {
        let braces = "use crate::{\n    engine::{ports::Stream, Engine},\n    sql::Store,\n};";
        assert_eq!(said("src/redis/pool.rs", braces), "src/redis/pool.rs:3: `redis` must not use `sql`");
        assert_eq!(
            said("src/quota/id.rs", "let x = crate::engine::f();"),
            "src/quota/id.rs:1: `quota` must not use `engine`"
        );
        assert!(said("src/quota/id.rs", "use super::super::metrics;").contains("must not use `metrics`"));
        assert!(said("src/engine/mod.rs", "use super::http::X;").contains("must not use `http`"));
        assert!(said("src/cellar/mod.rs", "").contains("has no floor"));
        for (name, fine) in [
            ("src/redis/pool.rs", "use crate::{engine::ports::{Counters, Stream}, quota::id::AccountId, redis::keys};"),
            (
                "src/quota/id.rs",
                "// crate::engine\nuse super::clock;\n#[cfg(test)]\nmod tests {\n use crate::engine;\n}",
            ),
            ("src/sql/contract.rs", "use crate::redis;"),
            ("src/http/mod.rs", "macro_rules! m { () => { $crate::quota::f() } }"),
            ("src/app.rs", "use crate::{http, sql, redis, writeback, embedded, config};"),
        ] {
            assert_eq!(said(name, fine), "", "{fine}");
        }
    }
}
