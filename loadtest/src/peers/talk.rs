//! The two languages of the lean client: HTTP, and that of Redis.

use std::io::Write;

use super::lean::Talk;

/// POST requests.
#[derive(Clone, Debug)]
pub struct Http {
    pub path: &'static str,
    /// The body of request number `n`.
    pub body: fn(u64) -> String,
}

impl Talk for Http {
    fn ask(&mut self, index: u64, request: &mut Vec<u8>) {
        let (path, body) = (self.path, (self.body)(index));
        let length = body.len();
        // Writing to a vector cannot fail.
        let _ = write!(
            request,
            "POST {path} HTTP/1.1\r\nHost: peer\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
    }

    fn is_complete(&self, answer: &[u8]) -> Result<bool, String> {
        const END_OF_HEAD: &[u8] = b"\r\n\r\n";
        let Some(head) = answer.windows(END_OF_HEAD.len()).position(|four| four == END_OF_HEAD) else {
            return Ok(false);
        };
        let (head, body) = (String::from_utf8_lossy(&answer[..head]), &answer[head + END_OF_HEAD.len()..]);
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("the answer was {}", head.lines().next().unwrap_or_default()));
        }
        let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        match length {
            Some(Ok(length)) => Ok(body.len() >= length),
            Some(Err(_)) => Err("the answer has a length that is no number".to_owned()),
            // In chunks, as nginx + Lua answers.
            None => Ok(body.ends_with(b"0\r\n\r\n")),
        }
    }
}

/// The plain reserve, for a random account of those that `plain_seed.lua` makes.
#[derive(Clone, Debug)]
pub struct PlainReserve {
    /// SHA1 of the script.
    pub sha: String,
}

impl Talk for PlainReserve {
    fn ask(&mut self, index: u64, request: &mut Vec<u8>) {
        let account = format!("{{0}}a:{:012}", index * 7919 % 10_000);
        let record = format!("{{0}}r:{index}");
        let words = ["EVALSHA", &self.sha, "3", &account, &record, "{0}h", "5", "60000", "1700000000000", "t1"];
        let _ = write!(request, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(request, "${}\r\n{word}\r\n", word.len());
        }
    }

    /// `{0, balance}`: an array of two integers.
    fn is_complete(&self, answer: &[u8]) -> Result<bool, String> {
        const GRANTED: &[u8] = b"*2\r\n:0\r\n";
        if answer.len() >= GRANTED.len() && !answer.starts_with(GRANTED) {
            return Err(format!("Redis answered {}", String::from_utf8_lossy(answer).trim()));
        }
        Ok(answer.len() > GRANTED.len() && answer.ends_with(b"\r\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_http_answer_is_seen() {
        let http = Http { path: "/", body: |_| String::new() };
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        assert_eq!(http.is_complete(&head.as_bytes()[..20]), Ok(false));
        assert_eq!(http.is_complete(format!("{head}o").as_bytes()), Ok(false));
        assert_eq!(http.is_complete(format!("{head}ok").as_bytes()), Ok(true));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
        assert_eq!(http.is_complete(chunked.as_bytes()), Ok(false));
        assert_eq!(http.is_complete(format!("{chunked}0\r\n\r\n").as_bytes()), Ok(true));
        assert!(http.is_complete(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
    }

    #[test]
    fn only_a_grant_of_the_plain_script_is_right() {
        let plain = PlainReserve { sha: "x".to_owned() };
        assert_eq!(plain.is_complete(b"*2\r\n:0\r\n"), Ok(false));
        assert_eq!(plain.is_complete(b"*2\r\n:0\r\n:899\r\n"), Ok(true));
        assert!(plain.is_complete(b"*2\r\n:-2\r\n:3\r\n").is_err());
        assert!(plain.is_complete(b"-NOSCRIPT No matching script\r\n").is_err());
    }
}
