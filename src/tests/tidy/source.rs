//! Reads a Rust file: its text, and its code with comments, strings and characters blanked out, so
//! that braces and names in them are not taken for code.

use std::path::Path;

pub struct Source {
    /// Relative to the repository, with `/`.
    pub name: String,
    pub text: String,
    /// The text, line for line, without what is no code.
    pub code: String,
}

impl Source {
    pub fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
        Self { name, code: blank(&text), text }
    }
}

/// Replaces comments and the insides of literals by spaces; line breaks stay.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole literals are blanked, so no character is cut")
}

/// Where the comment or literal that begins at `at` ends; `at` when none begins there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let inside_name = at > 0 && is_name(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_end(bytes, at),
        [b'r', next, ..] if !inside_name && matches!(next, b'"' | b'#') => raw_string_end(bytes, at, 1),
        [b'b', b'r', next, ..] if !inside_name && matches!(next, b'"' | b'#') => raw_string_end(bytes, at, 2),
        [b'"', ..] => quoted_end(bytes, at, b'"'),
        [b'\'', b'\\', ..] => quoted_end(bytes, at, b'\''),
        // A character is one character and a quote; anything else is a lifetime.
        [b'\'', rest @ ..] => {
            let wide = std::str::from_utf8(&rest[..rest.len().min(4)])
                .or_else(|error| std::str::from_utf8(&rest[..error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            if rest.get(wide) == Some(&b'\'') { at + wide + 2 } else { at }
        }
        _ => at,
    }
}

fn quoted_end(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != quote {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

fn raw_string_end(bytes: &[u8], at: usize, prefix: usize) -> usize {
    let hashes = bytes[at + prefix..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(at + prefix + hashes) != Some(&b'"') {
        return at;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let inside = at + prefix + hashes + 1;
    let length = bytes[inside..].windows(close.len()).position(|window| window == close);
    length.map_or(bytes.len(), |length| inside + length + close.len())
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end + 1 < bytes.len() {
        match &bytes[end..end + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                end += 1;
                continue;
            }
        }
        end += 2;
        if depth == 0 {
            return end;
        }
    }
    bytes.len()
}

pub struct Function {
    pub name: String,
    /// Of the line with `fn`, from 1.
    pub line: usize,
    /// From there to the closing brace.
    pub lines: usize,
}

/// The functions with a body in blanked code.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(open) = code[at..].find(['{', ';']).map(|length| at + length) else { continue };
        if name.is_empty() || code.as_bytes()[open] == b';' {
            continue;
        }
        let mut depth = 0;
        let close = code[open..].char_indices().find_map(|(length, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            (depth == 0).then_some(open + length)
        });
        let lines_to = |end: usize| code[..end].matches('\n').count() + 1;
        let line = lines_to(at);
        found.push(Function { name, line, lines: lines_to(close.unwrap_or(code.len())) - line + 1 });
    }
    found
}

#[test]
fn what_is_no_code_is_blanked() {
    for (text, code) in [
        ("a // {\nb", "a     \nb"),
        ("a /* { /* } */ */ b", "a                 b"),
        (r#"f("\"{", '{', '\'', 'é')"#, "f(     ,    ,     ,     )"),
        ("r#\"a\"{\"# {", "         {"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("br\"{\" bar\"{\"", "      bar   "),
    ] {
        assert_eq!(blank(text), code, "{text}");
    }
}

#[test]
fn functions_are_measured() {
    let code =
        blank("trait T { fn g(&self); }\npub async fn f() {\n  let s = \"}\";\n  if x {\n  }\n}\nstruct Afn {}\n");
    let found: Vec<_> = functions(&code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(found, [("f".to_owned(), 2, 5)]);
}
