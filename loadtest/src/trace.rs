//! The Azure LLM inference traces of 2023: when real requests came, how long their prompts were and
//! how much was generated. Two of them ship inside the program, so that it runs anywhere.
//!
//! Columns: `TIMESTAMP` (`2023-11-16 18:15:46.6805900`), `ContextTokens`, `GeneratedTokens`.

use std::{io::Read, time::Duration};

use flate2::read::GzDecoder;

const CONV: &[u8] = include_bytes!("../traces/azure_llm_conv_2023.csv.gz");
const CODE: &[u8] = include_bytes!("../traces/azure_llm_code_2023.csv.gz");

/// One request of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Since the first request of the trace.
    pub offset: Duration,
    pub prompt_tokens: i64,
    pub generated_tokens: i64,
}

/// A trace, in order of arrival; never empty.
#[derive(Debug)]
pub struct Trace {
    pub rows: Vec<Row>,
    /// From the first request to where a repetition of the trace would begin: the last offset and
    /// one mean gap.
    pub span: Duration,
}

impl Trace {
    /// The trace named `conv` or `code`.
    ///
    /// # Errors
    /// A sentence when there is no such trace.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "conv" => Self::read_gz(CONV),
            "code" => Self::read_gz(CODE),
            _ => Err(format!("there is no trace {name:?}; the traces are conv and code")),
        }
    }

    fn read_gz(packed: &[u8]) -> Result<Self, String> {
        Self::read(GzDecoder::new(packed))
    }

    /// Reads the CSV form.
    ///
    /// # Errors
    /// A sentence naming the line that is wrong, or when the arrivals are out of order or absent.
    pub fn read(text: impl Read) -> Result<Self, String> {
        let mut rows: Vec<Row> = Vec::new();
        let mut first = None;
        for (index, record) in csv::Reader::from_reader(text).deserialize().enumerate() {
            let line = index + 2;
            let (stamp, prompt_tokens, generated_tokens): (String, i64, i64) =
                record.map_err(|error| format!("line {line} of the trace cannot be read: {error}"))?;
            let ticks = ticks(&stamp).ok_or_else(|| format!("line {line} of the trace has the time {stamp:?}"))?;
            let first = *first.get_or_insert(ticks);
            let since =
                ticks.checked_sub(first).ok_or_else(|| format!("line {line} of the trace is older than the first"))?;
            let offset = Duration::from_nanos(since * NANOS_PER_TICK);
            if rows.last().is_some_and(|last| last.offset > offset) {
                return Err(format!("line {line} of the trace is older than the line before it"));
            }
            if prompt_tokens < 0 || generated_tokens < 0 {
                return Err(format!("line {line} of the trace counts fewer than no tokens"));
            }
            rows.push(Row { offset, prompt_tokens, generated_tokens });
        }
        let last = rows.last().ok_or("the trace holds no request")?.offset;
        let gaps = u32::try_from(rows.len().saturating_sub(1)).unwrap_or(u32::MAX).max(1);
        let gap = (last / gaps).max(Duration::from_millis(1));
        Ok(Self { span: last + gap, rows })
    }

    #[must_use]
    pub fn row(&self, index: u64) -> &Row {
        &self.rows[usize::try_from(index % self.rows.len() as u64).unwrap_or(0)]
    }

    /// When request `index` arrives if the trace is repeated for ever.
    #[must_use]
    pub fn offset(&self, index: u64) -> Duration {
        let rounds = u32::try_from(index / self.rows.len() as u64).unwrap_or(u32::MAX);
        self.span * rounds + self.row(index).offset
    }
}

/// The trace's clock ticks every 100 ns.
const NANOS_PER_TICK: u64 = 100;
const TICKS_PER_SECOND: u64 = 10_000_000;

/// Ticks since 1970 of `2023-11-16 18:15:46.6805900`; the fraction may be missing or shorter.
fn ticks(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.split_once(' ')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !in_range || fraction.len() > 7 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<7}").parse().ok()?;
    // Days of the civil calendar, the year taken to begin in March so that the leap day is its last.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * TICKS_PER_SECOND + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_traces_are_whole() {
        for (name, rows, first, last, seconds) in
            [("conv", 19_366, (374, 44), (197, 183), 3501.721937), ("code", 8_819, (4808, 10), (549, 173), 3435.948056)]
        {
            let trace = Trace::named(name).unwrap();
            assert_eq!(trace.rows.len(), rows, "{name}");
            assert_eq!((trace.rows[0].prompt_tokens, trace.rows[0].generated_tokens), first, "{name}");
            let end = trace.rows[rows - 1];
            assert_eq!((end.prompt_tokens, end.generated_tokens), last, "{name}");
            assert!((end.offset.as_secs_f64() - seconds).abs() < 1e-6, "{name}: {:?}", end.offset);
        }
        assert!(Trace::named("chat").is_err());
    }

    #[test]
    fn times_are_ticks_since_1970() {
        assert_eq!(ticks("1970-01-01 00:00:00.0000001"), Some(1));
        assert_eq!(ticks("1970-01-01 00:00:01"), Some(TICKS_PER_SECOND));
        // date -u -d '2023-11-16 18:15:46' +%s
        assert_eq!(ticks("2023-11-16 18:15:46.6805900"), Some(17_001_585_466_805_900));
        // Over a leap day: 2024-02-29 and 2024-03-01 are one day apart.
        let (leap, next) = (ticks("2024-02-29 00:00:00").unwrap(), ticks("2024-03-01 00:00:00").unwrap());
        assert_eq!((next - leap) / TICKS_PER_SECOND, 86_400);
        for bad in ["", "2023-11-16", "2023-11-16 18:15", "2023-13-16 18:15:46", "2023-11-16 18:15:46.12345678", "x y"]
        {
            assert_eq!(ticks(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_repeated_trace_goes_on_where_it_ended() {
        let text =
            "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:00:00.0,5,1\r\n2023-11-16 18:00:10.0,7,2\r\n";
        let trace = Trace::read(text.as_bytes()).unwrap();
        let at: Vec<u64> = (0..5).map(|index| trace.offset(index).as_secs()).collect();
        assert_eq!(at, [0, 10, 20, 30, 40]);
        assert_eq!(trace.row(3).prompt_tokens, 7);
    }

    #[test]
    fn a_broken_trace_names_its_line() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:10,5,1\n2023-11-16 18:00:00,7,2\n";
        assert!(Trace::read(text.as_bytes()).unwrap_err().contains("line 3"));
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:10,5,x\n";
        assert!(Trace::read(text.as_bytes()).unwrap_err().contains("line 2"));
        assert!(Trace::read("TIMESTAMP,ContextTokens,GeneratedTokens\n".as_bytes()).is_err());
    }
}
