//! Calls over a connection in memory, whose other end the test plays.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

use super::*;

fn connected() -> (Arc<Pipe>, DuplexStream, JoinHandle<String>) {
    let (ours, theirs) = duplex(64 << 10);
    let pipe = Arc::new(Pipe::default());
    let driver = tokio::spawn(Driver::new(pipe.clone(), Box::new(ours), 3));
    (pipe, theirs, driver)
}

async fn ask(pipe: &Pipe, command: &[u8]) -> Result<Vec<u8>, Fault> {
    let reply = pipe.call(later(), |out| out.extend_from_slice(command))?.await?;
    Ok(reply.to_vec())
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn heard(server: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 16];
    let read = server.read(&mut bytes).await.unwrap();
    bytes.truncate(read);
    bytes
}

#[tokio::test]
async fn calls_made_at_once_are_one_write_and_each_gets_its_own_reply() {
    let (pipe, mut server, _driver) = connected();
    let served = async {
        assert_eq!(heard(&mut server).await, b"one two three ");
        // In pieces, as a network may bring them.
        for piece in [&b":1\r\n$2"[..], b"\r\nok\r", b"\n*1\r\n:3\r\n"] {
            server.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (one, two, three, ()) = tokio::join!(ask(&pipe, b"one "), ask(&pipe, b"two "), ask(&pipe, b"three "), served);
    assert_eq!([one.unwrap(), two.unwrap(), three.unwrap()], [&b":1\r\n"[..], b"$2\r\nok\r\n", b"*1\r\n:3\r\n"]);
    assert_eq!(driven_here(), Some(3), "the thread knows its lane");
}

#[tokio::test]
async fn a_reply_that_nobody_waits_for_is_nobody_elses() {
    let (pipe, mut server, _driver) = connected();
    drop(pipe.call(later(), |out| out.extend_from_slice(b"gone ")).unwrap());
    let (other, ()) = tokio::join!(ask(&pipe, b"here "), async {
        assert_eq!(heard(&mut server).await, b"gone here ", "it is sent all the same");
        server.write_all(b":1\r\n:2\r\n").await.unwrap();
    });
    assert_eq!(other.unwrap(), b":2\r\n");
    // Answered before it was given up.
    let late = pipe.call(later(), |out| out.extend_from_slice(b"late ")).unwrap();
    heard(&mut server).await;
    server.write_all(b":3\r\n").await.unwrap();
    while !matches!(pipe.state().calls[late.place], Call::Answered(_)) {
        tokio::task::yield_now().await;
    }
    drop(late);
    let state = pipe.state();
    assert!(state.unanswered.is_empty());
    assert!(state.calls.iter().all(|call| matches!(call, Call::Free(_))), "every place is free again");
    assert_eq!(state.calls.len(), 2, "and was used again");
}

#[tokio::test]
async fn a_call_waits_no_longer_than_it_says_and_its_reply_is_nobody_elses() {
    let (pipe, mut server, _driver) = connected();
    let begun = Instant::now();
    let patient = pipe.call(later(), |out| out.extend_from_slice(b"patient ")).unwrap();
    let hasty = pipe.call(begun + Duration::from_millis(20), |out| out.extend_from_slice(b"hasty ")).unwrap();
    assert_eq!(hasty.await, Err(Fault::Timeout));
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let third = ask(&pipe, b"third ");
    let (patient, third, ()) = tokio::join!(patient, third, async {
        while heard(&mut server).await != b"third " {}
        server.write_all(b":1\r\n:2\r\n:3\r\n").await.unwrap();
    });
    assert_eq!((&patient.unwrap()[..], &third.unwrap()[..]), (&b":1\r\n"[..], &b":3\r\n"[..]));
}

#[tokio::test]
async fn an_ended_connection_is_told_to_all_and_nothing_is_sent_twice() {
    let (pipe, mut server, driver) = connected();
    let (one, two, ()) = tokio::join!(ask(&pipe, b"one "), ask(&pipe, b"two "), async move {
        heard(&mut server).await;
        server.write_all(b":1\r\n$9\r\nhal").await.unwrap();
    });
    assert_eq!(one.unwrap(), b":1\r\n");
    assert!(matches!(two, Err(Fault::Lost(_))), "{two:?}");
    assert!(driver.await.unwrap().contains("end of file"));
    assert!(matches!(ask(&pipe, b"three ").await, Err(Fault::Lost(_))));
}

#[tokio::test]
async fn a_driver_that_is_stopped_leaves_nobody_waiting() {
    let (pipe, mut server, driver) = connected();
    let (one, ()) = tokio::join!(ask(&pipe, b"one "), async {
        heard(&mut server).await;
        driver.abort();
    });
    assert!(matches!(one, Err(Fault::Lost(_))), "{one:?}");
}

#[tokio::test]
async fn what_is_no_reply_ends_the_connection() {
    let (pipe, mut server, driver) = connected();
    let (one, ()) = tokio::join!(ask(&pipe, b"one "), async {
        heard(&mut server).await;
        server.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.unwrap();
    });
    assert!(matches!(one, Err(Fault::Lost(_))), "{one:?}");
    assert!(driver.await.unwrap().contains("RESP"));
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_not_written_to_for_ever() {
    let (pipe, _server, _driver) = connected();
    let kilobyte = [b'x'; 1 << 10];
    let mut taken = 0;
    loop {
        match pipe.call(later(), |out| out.extend_from_slice(&kilobyte)) {
            Ok(reply) => drop(reply),
            Err(fault) => break assert_eq!(fault, Fault::Overloaded),
        }
        taken += kilobyte.len();
        tokio::task::yield_now().await;
    }
    assert!(taken <= 2 * UNSENT_BYTES_MAX + (64 << 10), "{taken}");
}
