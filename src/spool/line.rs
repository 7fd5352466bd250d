//! A line: 16 hexadecimal digits of XXH3 over the record, a space, the record, a newline. Records are
//! JSON on one line, so that people can read the files too.

use xxhash_rust::xxh3::xxh3_64;

const DIGITS: usize = 16;

pub(super) fn write(record: &[u8], to: &mut Vec<u8>) {
    debug_assert!(!record.contains(&b'\n'));
    to.extend_from_slice(format!("{:016x} ", xxh3_64(record)).as_bytes());
    to.extend_from_slice(record);
    to.push(b'\n');
}

/// The record of a whole line without its newline; `None` when it is torn or rotten.
pub(super) fn read(line: &[u8]) -> Option<&[u8]> {
    let (digits, rest) = line.split_at_checked(DIGITS)?;
    let record = rest.strip_prefix(b" ")?;
    let sum = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (sum == xxh3_64(record)).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_whole_or_not_at_all() {
        let mut line = Vec::new();
        write(br#"{"a":1}"#, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert_eq!(read(&line), Some(&br#"{"a":1}"#[..]));
        for end in 0..line.len() {
            assert_eq!(read(&line[..end]), None, "torn after {end} bytes");
        }
        for at in 0..line.len() {
            let mut rotten = line.clone();
            rotten[at] ^= 1;
            assert_eq!(read(&rotten), None, "byte {at}");
        }
    }
}
