//! What a power loss does to Redis' folder: the append-only file cut, older copies, nothing at all.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
};

use super::dice::Dice;

/// The folder inside Redis' own that holds the append-only files.
const FOLDER: &str = "appendonlydir";

/// The file that is written to: the increment with the highest number.
fn last_increment(folder: &Path) -> Option<PathBuf> {
    let number = |path: &PathBuf| -> Option<u64> {
        let name = path.file_name()?.to_str()?.strip_suffix(".incr.aof")?;
        name.rsplit_once('.')?.1.parse().ok()
    };
    let files = fs::read_dir(folder.join(FOLDER)).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|path| number(path).is_some()).max_by_key(number)
}

/// The ends of the units of an append-only file: one command, or a whole MULTI block.
pub fn unit_ends(bytes: &[u8]) -> Vec<usize> {
    let (mut ends, mut at, mut inside) = (vec![0], 0, false);
    while let Some((end, name)) = command(bytes, at) {
        at = end;
        match name {
            b"MULTI" => inside = true,
            b"EXEC" => inside = false,
            _ => {}
        }
        if !inside {
            ends.push(at);
        }
    }
    ends
}

/// End and first word of the command at a place; `None` when it is not whole.
fn command(bytes: &[u8], at: usize) -> Option<(usize, &[u8])> {
    // An annotation, such as a timestamp, is a unit of its own.
    if bytes.get(at) == Some(&b'#') {
        return Some((line(bytes, at)?.0, b"#"));
    }
    let (mut at, count) = number(bytes, at, b'*')?;
    let mut name: &[u8] = b"";
    for word in 0..count {
        let (begin, length) = number(bytes, at, b'$')?;
        let text = bytes.get(begin..begin + length)?;
        if word == 0 {
            name = text;
        }
        at = begin + length + 2;
    }
    (at <= bytes.len()).then_some((at, name))
}

fn number(bytes: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let (end, text) = line(bytes, at)?;
    let digits = text.strip_prefix(&[kind])?;
    Some((end, std::str::from_utf8(digits).ok()?.parse().ok()?))
}

fn line(bytes: &[u8], at: usize) -> Option<(usize, &[u8])> {
    let rest = bytes.get(at..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some((at + length + 2, &rest[..length]))
}

fn cut(path: &Path, length: usize) {
    let file = OpenOptions::new().write(true).open(path).expect("the append-only file");
    file.set_len(length as u64).expect("the append-only file can be cut");
}

/// Drops up to `most` whole units; says what was dropped.
pub fn cut_blocks(folder: &Path, most: usize, dice: &mut Dice) -> String {
    let Some(path) = last_increment(folder) else { return "no file".into() };
    let ends = unit_ends(&fs::read(&path).expect("the append-only file"));
    let units = dice.below(most) + 1;
    let kept = ends[ends.len().saturating_sub(1 + units)];
    cut(&path, kept);
    format!("{units} units of {}, {kept} bytes left", ends.len() - 1)
}

/// Cuts inside the last block of some length: all of its commands are whole but the last. A restart
/// rolls the block back, but leaves the file cut where it is.
pub fn cut_inside(folder: &Path) -> String {
    let Some(path) = last_increment(folder) else { return "no file".into() };
    let bytes = fs::read(&path).expect("the append-only file");
    let Some(kept) = last_inside(&bytes) else { return "no block".into() };
    cut(&path, kept);
    format!("inside a block, {} bytes, {kept} left", bytes.len() - kept)
}

/// A place within the last command of the last block that has three at least.
fn last_inside(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut inside, mut found) = (0, Vec::new(), None);
    while let Some((end, name)) = command(bytes, at) {
        match name {
            b"MULTI" => inside.clear(),
            b"EXEC" if inside.len() >= 3 => found = inside.last().map(|begin| begin + 3),
            _ => inside.push(at),
        }
        at = end;
    }
    found
}

/// Drops up to `most` bytes; says what was dropped.
pub fn cut_bytes(folder: &Path, most: usize, dice: &mut Dice) -> String {
    let Some(path) = last_increment(folder) else { return "no file".into() };
    let length = fs::metadata(&path).map_or(0, |file| usize::try_from(file.len()).expect("a small file"));
    let kept = length.saturating_sub(dice.below(most) + 1);
    cut(&path, kept);
    format!("{} bytes, {kept} left", length - kept)
}

/// Everything is gone.
pub fn wipe(folder: &Path) {
    let _ = fs::remove_dir_all(folder.join(FOLDER));
}

/// Copies what Redis would start from; the server must stand still.
pub fn copy_to(folder: &Path, copy: &Path) {
    let _ = fs::remove_dir_all(copy);
    copy_folder(&folder.join(FOLDER), copy);
}

pub fn restore_from(folder: &Path, copy: &Path) {
    wipe(folder);
    copy_folder(copy, &folder.join(FOLDER));
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the copy");
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        // Temporary files of a rewrite may vanish meanwhile.
        let _ = fs::copy(entry.path(), to.join(entry.file_name()));
    }
}

#[test]
fn units_of_an_append_only_file_are_told_apart() {
    let set = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n";
    let block = format!("*1\r\n$5\r\nMULTI\r\n{set}*1\r\n$4\r\nEXEC\r\n");
    let file = format!("{set}{block}#TS:1\r\n{set}");
    let ends = unit_ends(file.as_bytes());
    let lengths: Vec<usize> = ends.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(lengths, [set.len(), block.len(), 7, set.len()]);
    assert_eq!(unit_ends(&file.as_bytes()[..file.len() - 3]), ends[..4], "the last one is torn");
    assert_eq!(unit_ends(&file.as_bytes()[..set.len() + block.len() - 1]), ends[..2], "a torn block is no unit");
    let end = "*1\r\n$4\r\nEXEC\r\n";
    let long = format!("{set}*1\r\n$5\r\nMULTI\r\n{set}{set}{set}{end}{block}");
    let third = long.len() - block.len() - end.len() - set.len();
    assert_eq!(last_inside(long.as_bytes()), Some(third + 3));
}
