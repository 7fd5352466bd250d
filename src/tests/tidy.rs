//! Holds the house in order: floors, sizes, names, Lua headers, and that README tells what the code
//! does. Each finding is a sentence with file and line.

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/source.rs"]
mod source;

use std::path::{Path, PathBuf};

use source::{Source, functions};

const FILE_LINES_SOFT: usize = 300;
const FILE_LINES_HARD: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with that extension, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn rust_sources() -> Vec<Source> {
    let all = ["src", "benches", "loadtest"].into_iter().flat_map(|folder| files(folder, "rs"));
    let all: Vec<Source> = all.map(|path| Source::read(root(), &path)).collect();
    assert!(all.len() > 30, "only {} files found: is this still the right place?", all.len());
    all
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn imports_go_downward_only() {
    let findings: Vec<String> = rust_sources().iter().flat_map(floors::violations).collect();
    assert_none(&findings);
}

#[test]
fn files_and_functions_stay_small() {
    let mut findings = Vec::new();
    for source in rust_sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_HARD {
            findings.push(format!("{}: {lines} lines, {FILE_LINES_HARD} are the most", source.name));
        } else if lines > FILE_LINES_SOFT {
            eprintln!("note: {} has {lines} lines; more than {FILE_LINES_SOFT} ask for a reason", source.name);
        }
        for function in functions(&source.code) {
            if function.lines > FUNCTION_LINES_MAX {
                findings.push(format!(
                    "{}:{}: `{}` has {} lines, {FUNCTION_LINES_MAX} are the most",
                    source.name, function.line, function.name, function.lines
                ));
            }
        }
    }
    assert_none(&findings);
}

#[test]
fn names_say_what_is_inside() {
    let vague = ["utils", "util", "common", "helpers", "helper", "manager", "service", "misc"];
    let findings: Vec<String> = rust_sources()
        .iter()
        .filter(|source| source.name.split(['/', '.']).any(|part| vague.contains(&part)))
        .map(|source| format!("{}: name it after what it holds", source.name))
        .collect();
    assert_none(&findings);
}

#[test]
fn only_the_clock_reads_the_clock() {
    let call = ["SystemTime", "::now"].concat();
    let findings: Vec<String> = rust_sources()
        .iter()
        .filter(|source| source.name != "src/quota/clock.rs" && source.code.contains(&call))
        .map(|source| format!("{}: reads the machine's clock; quota/clock.rs alone does", source.name))
        .collect();
    assert_none(&findings);
}

/// A verb's header names its KEYS, its ARGV and what it returns; a helper in `lua/lib` says what it
/// does.
#[test]
fn every_script_has_its_header() {
    let mut findings = Vec::new();
    let scripts = files("lua", "lua");
    for path in &scripts {
        let source = Source::read(root(), path);
        let header: Vec<&str> = source
            .text
            .lines()
            .skip_while(|line| line.starts_with("#!"))
            .take_while(|line| line.starts_with("--"))
            .collect();
        let header = header.join("\n");
        if header.is_empty() {
            findings.push(format!("{}: begins without a header comment", source.name));
        }
        if source.name.contains("/lib/") {
            continue;
        }
        if !source.text.starts_with("#!lua") {
            findings.push(format!("{}: must begin with #!lua, or Redis runs it when out of memory", source.name));
        }
        for word in ["KEYS", "ARGV", "returns"] {
            if !header.contains(word) {
                findings.push(format!("{}: the header does not name {word}", source.name));
            }
        }
    }
    assert!(!scripts.is_empty(), "no scripts found");
    assert_none(&findings);
}

#[test]
fn readme_tells_all_settings() {
    use quotad::config::settings::{README_HEAD, SETTINGS};
    let rows: Vec<String> = SETTINGS.iter().map(|setting| setting.readme_row()).collect();
    readme_has_table("settings", &format!("{README_HEAD}\n{}", rows.join("\n")));
}

#[test]
fn readme_tells_all_runtime_settings() {
    use quotad::engine::settings::{ENTRIES, README_HEAD};
    let rows: Vec<String> = ENTRIES.iter().map(|entry| entry.readme_row()).collect();
    readme_has_table("runtime settings", &format!("{README_HEAD}\n{}", rows.join("\n")));
}

#[test]
fn readme_tells_all_metrics() {
    use quotad::metrics::METRICS;
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|".to_owned();
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|(name, values)| label(name, values)).collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join("; ") };
        let kind = format!("{:?}", metric.kind).to_lowercase();
        table.push_str(&format!("\n| `{}` | {kind} | {labels} | {} |", metric.name, metric.help));
    }
    readme_has_table("metrics", &table);
}

/// A label with its values; long lists stand in `metrics.rs` and the protocol.
fn label(name: &str, values: &[&str]) -> String {
    if values.len() > 8 { format!("`{name}`") } else { format!("`{name}`: {}", values.join(", ")) }
}

/// README holds `table` between the comments `<!-- name -->` and `<!-- /name -->`; with the variable
/// `UPDATE_README` it is written there instead.
fn readme_has_table(name: &str, table: &str) {
    // Several tests may write, each its own table.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let present = readme.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map(|(present, _)| present);
    let Some(present) = present else {
        panic!("README.md must hold {open} and {close} with the table of {name} between them");
    };
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, readme.replace(&format!("{open}{present}{close}"), &format!("{open}\n{table}\n{close}")))
            .expect("README.md can be written");
        return;
    }
    assert!(
        present.trim() == table.trim(),
        "the table of {name} in README.md is not that of the code: run `UPDATE_README=1 cargo test --test tidy`"
    );
}

/// Paths of somebody's machine have no place in what is published.
#[test]
fn no_machine_paths() {
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(listed) = listed.ok().filter(|output| output.status.success()) else {
        eprintln!("note: not a git checkout, so nothing is tracked and nothing is checked");
        return;
    };
    let mut findings = Vec::new();
    for name in String::from_utf8(listed.stdout).unwrap().split('\0').filter(|name| !name.is_empty()) {
        // Deleted but not yet committed, or not text.
        let Ok(text) = std::fs::read_to_string(root().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(path) = machine_path(line) {
                findings.push(format!("{name}:{}: holds the machine path {path}", number + 1));
            }
        }
    }
    assert_none(&findings);
}

/// A path below one of the folders that differ from machine to machine.
fn machine_path(line: &str) -> Option<&'static str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | ')');
    ["/root", "/work", "/home"].into_iter().find(|folder| {
        line.match_indices(folder).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + folder.len()..].chars().next();
            !before.is_some_and(is_word) && after == Some('/')
        })
    })
}

#[test]
fn machine_paths_are_told_from_others() {
    for folder in ["root", "work", "home"] {
        assert!(machine_path(&format!("see /{folder}/x")).is_some());
        assert!(machine_path(&format!("\"/{folder}/x\"")).is_some());
        for fine in
            [format!("src/{folder}/x"), format!("/{folder}er/x"), format!("$HOME/{folder}/x"), folder.to_owned()]
        {
            assert!(machine_path(&fine).is_none(), "{fine}");
        }
    }
}
