//! Clients that are slow, broken or hostile cost the others nothing.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{Setup, http::read_answer};

/// Sends the bytes one by one until the other side has had enough; how long that took.
fn dribble(mut stream: std::net::TcpStream, bytes: &[u8], within: Duration) -> (Duration, Option<u16>) {
    let begun = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    for byte in bytes.iter().cycle() {
        assert!(begun.elapsed() < within, "a dribbling client is still served after {within:?}");
        let gone = stream.write_all(&[*byte]).is_err();
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => seen.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        if gone {
            break;
        }
    }
    (begun.elapsed(), read_answer(&mut seen.as_slice()).ok().map(|answer| answer.status))
}

#[test]
fn slow_clients_are_cut_and_others_are_served_meanwhile() {
    let setup = Setup::default().set("header_timeout_ms", "700").set("body_timeout_ms", "700");
    let quotad = setup.set("idle_timeout_ms", "1500").start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let within = Duration::from_secs(8);
    std::thread::scope(|scope| {
        let head =
            scope.spawn(|| dribble(quotad.gateway.connect().unwrap(), b"POST /v1/reserve HTTP/1.1\r\nX-A: b", within));
        let body = scope.spawn(|| {
            let mut stream = quotad.gateway.connect().unwrap();
            stream.write_all(b"POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: 60000\r\n\r\n").unwrap();
            dribble(stream, b" ", within)
        });
        let idle = scope.spawn(|| {
            let mut stream = quotad.gateway.connect().unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: q\r\n\r\n").unwrap();
            let begun = Instant::now();
            assert_eq!(read_answer(&mut stream).unwrap().status, 200);
            stream.set_read_timeout(Some(within)).unwrap();
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "closed when idle");
            begun.elapsed()
        });
        for number in 0..20 {
            let begun = Instant::now();
            quotad.reserve(json!({"account": "a", "id": format!("r-{number}"), "amount": 1})).expect(200);
            assert!(begun.elapsed() < Duration::from_secs(1), "others wait for nobody");
        }
        let (took, status) = head.join().unwrap();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(matches!(status, None | Some(400 | 408)), "{status:?}");
        let (took, status) = body.join().unwrap();
        assert!(took >= Duration::from_millis(500), "{took:?}");
        assert!(matches!(status, None | Some(408)), "{status:?}");
        assert!(idle.join().unwrap() >= Duration::from_millis(1000));
    });
    assert_eq!(quotad.money("a"), [1000, 20, 980]);
}

#[test]
fn bytes_that_are_no_http_end_the_connection_and_nothing_else() {
    let quotad = Setup::default().set("header_timeout_ms", "1000").start();
    quotad.account("a", json!({"initial_balance": 1000}));
    let long_head = format!("GET /healthz HTTP/1.1\r\nHost: q\r\nX-A: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: q\r\n{}\r\n", "X-A: b\r\n".repeat(5_000));
    let smuggled = "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ";
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/reserve HTTP/1.1\r\nHost: q\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        long_head.as_bytes(),
        many.as_bytes(),
        smuggled.as_bytes(),
    ] {
        let mut stream = quotad.gateway.connect().unwrap();
        // The server may close while we still write.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        let status = read_answer(&mut said.as_slice()).ok().map(|answer| answer.status);
        assert!(matches!(status, None | Some(400..=499 | 505)), "{status:?} for {:?}", &bytes[..bytes.len().min(60)]);
    }
    // A client that goes away in the middle of its own call loses nothing and costs nothing.
    for number in 0..50 {
        let body = json!({"account": "a", "id": format!("gone-{number}"), "amount": 1}).to_string();
        let mut stream = quotad.gateway.connect().unwrap();
        let length = body.len();
        write!(stream, "POST /v1/reserve HTTP/1.1\r\nHost: q\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    }
    for number in 0..50 {
        let again = quotad.reserve(json!({"account": "a", "id": format!("gone-{number}"), "amount": 1}));
        assert_eq!(again.expect(200)["held"], 1, "the call is asked again, and counts once");
    }
    assert_eq!(quotad.money("a"), [1000, 50, 950]);
    assert_eq!(quotad.gateway.get("/healthz").status, 200);
}
