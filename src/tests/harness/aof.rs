//! The append-only file of a stopped Redis, cut as a power loss would leave it. The unit of a cut is what
//! Redis wrote at once: a MULTI … EXEC block (a script), or a command that stood alone.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

/// The last incremental file of a server's folder.
pub struct Aof {
    path: PathBuf,
    bytes: Vec<u8>,
    units: Vec<Range<usize>>,
}

impl Aof {
    /// Of a server that is not running and whose folder this is.
    pub fn open(folder: &Path) -> Self {
        let folder = folder.join("appendonlydir");
        let manifest = std::fs::read_to_string(folder.join("appendonly.aof.manifest")).expect("a manifest");
        let mut name =
            manifest.lines().filter(|line| line.ends_with("type i")).filter_map(|line| line.split(' ').nth(1));
        let path = folder.join(name.next_back().expect("an incremental file"));
        let bytes = std::fs::read(&path).expect("the incremental file");
        let units = units(&bytes);
        Self { path, bytes, units }
    }

    pub fn units(&self) -> usize {
        self.units.len()
    }

    /// Loses the last `count` units.
    pub fn cut(&self, count: usize) {
        let kept = self.units.len().checked_sub(count).expect("so many units");
        self.keep(self.units.get(kept).map_or(self.bytes.len(), |unit| unit.start));
    }

    /// Loses the first unit that holds these bytes, and all after it. How many those were.
    #[track_caller]
    pub fn cut_from(&self, bytes: &[u8]) -> usize {
        let first = self.find(bytes);
        self.keep(self.units[first].start);
        self.units.len() - first
    }

    /// Ends the file inside the last write of the first block that holds these bytes: all its writes but
    /// that one are in the file, as a crash in the middle of a write leaves it.
    #[track_caller]
    pub fn tear(&self, bytes: &[u8]) {
        let unit = self.units[self.find(bytes)].clone();
        let (mut at, mut last_write) = (unit.start, None);
        while let Some((length, name)) = command(&self.bytes[at..unit.end]) {
            if !matches!(name.as_slice(), b"multi" | b"exec") {
                last_write = Some(at);
            }
            at += length;
        }
        self.keep(last_write.filter(|write| *write > unit.start).expect("a block of several commands") + 9);
    }

    #[track_caller]
    fn find(&self, bytes: &[u8]) -> usize {
        let holds = |unit: &Range<usize>| self.bytes[unit.clone()].windows(bytes.len()).any(|window| window == bytes);
        let found = self.units.iter().position(holds);
        found.unwrap_or_else(|| panic!("no unit holds {}", String::from_utf8_lossy(bytes)))
    }

    fn keep(&self, length: usize) {
        let file = std::fs::OpenOptions::new().write(true).open(&self.path).expect("the incremental file");
        file.set_len(length as u64).expect("it can be cut");
    }
}

fn units(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut units, mut at, mut begun) = (Vec::new(), 0, None);
    while let Some((length, name)) = command(&bytes[at..]) {
        let start = at;
        at += length;
        match name.as_slice() {
            b"multi" => begun = Some(start),
            b"exec" => units.push(begun.take().unwrap_or(start)..at),
            _ if begun.is_none() => units.push(start..at),
            _ => {}
        }
    }
    units
}

/// Length and lower-case name of the command that the bytes begin with; a line of `#` is skipped over.
fn command(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let number = |at: usize, mark: u8| {
        let rest = bytes.get(at..)?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let text = std::str::from_utf8(&rest[1..end]).ok()?;
        (rest[0] == mark).then_some((text.parse::<usize>().ok()?, at + end + 2))
    };
    if bytes.first() == Some(&b'#') {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
        let (length, name) = command(&bytes[end..])?;
        return Some((end + length, name));
    }
    let (count, mut at) = number(0, b'*')?;
    let mut name = Vec::new();
    for word in 0..count {
        let (length, begin) = number(at, b'$')?;
        let text = bytes.get(begin..begin + length)?;
        if word == 0 {
            name = text.to_ascii_lowercase();
        }
        at = begin + length + 2;
    }
    (at <= bytes.len()).then_some((at, name))
}

#[test]
fn blocks_are_units() {
    let bytes =
        b"*1\r\n$4\r\nPING\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n*1\r\n$4\r\nPI";
    assert_eq!(units(bytes), [0..14, 14..63]);
}
