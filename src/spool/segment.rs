//! The files: `<number>.log`, numbers growing; and `refused`, which only people read.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Result},
    path::{Path, PathBuf},
};

use super::{State, line};

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:012}.log"))
}

pub(super) fn refused(folder: &Path) -> PathBuf {
    folder.join("refused")
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

/// Reads all files into `state`, cuts torn tails, removes files without lines; the number of the next
/// file.
pub(super) fn read_all(folder: &Path, state: &mut State) -> Result<u64> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(1),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    for number in &numbers {
        read(folder, *number, state)?;
    }
    Ok(numbers.last().map_or(1, |last| last + 1))
}

fn read(folder: &Path, number: u64, state: &mut State) -> Result<()> {
    let path = path(folder, number);
    let content = fs::read(&path)?;
    let (mut at, mut whole, mut lines) = (0, 0, 0);
    let mut rotten: Vec<&[u8]> = Vec::new();
    for text in content.split_inclusive(|byte| *byte == b'\n') {
        at += text.len();
        match text.strip_suffix(b"\n").and_then(line::read) {
            Some(record) => {
                state.add(number, record, text.len() as u64);
                (whole, lines) = (at, lines + 1);
                for text in rotten.drain(..) {
                    // Not a torn tail, for whole lines follow: the disk has changed what it was given.
                    let text = String::from_utf8_lossy(text);
                    tracing::error!(file = %path.display(), %text, "a line of the spool is damaged and left out");
                }
            }
            None => rotten.push(text),
        }
    }
    if lines == 0 {
        fs::remove_file(&path)?;
        return sync_folder(folder);
    }
    if whole < content.len() {
        tracing::warn!(file = %path.display(), bytes = content.len() - whole, "cut the torn end of a spool file");
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    Ok(())
}
