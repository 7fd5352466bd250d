//! Calls over a connection in memory, whose other end the test plays.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

use super::{super::script::Scripts, *};

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

/// What was sent once stayed in memory until a moment without a rest, which a busy server never has.
#[tokio::test]
async fn what_is_sent_takes_no_memory_though_a_rest_is_always_left() {
    let (ours, mut server) = duplex(4 << 10);
    let pipe = Arc::new(Pipe::default());
    let _driver = tokio::spawn(Driver::new(pipe.clone(), Box::new(ours), 3));
    let (call, mut read) = ([b'x'; 1 << 10], [0; 1 << 10]);
    let make = || drop(pipe.call(later(), |out| out.extend_from_slice(&call)).unwrap());
    (0..16).for_each(|_| make());
    for _ in 0..4 * (KEPT_BYTES_MAX >> 10) {
        make();
        server.read_exact(&mut read).await.unwrap();
    }
    let state = pipe.state();
    assert!(state.unsent.len() > state.sent, "a rest is left");
    assert!(state.unsent.len() <= KEPT_BYTES_MAX + (64 << 10), "{}", state.unsent.len());
}

fn share<'p>(pipe: &'p Pipe, scripts: &Scripts, until: Instant, arg: &[u8]) -> Reply<'p> {
    pipe.share(until, &scripts.release, &["a".to_owned(), "b".to_owned()], arg).unwrap()
}

/// How the server hears so many calls.
fn command(scripts: &Scripts, args: &[&[u8]]) -> Vec<u8> {
    let keys: Vec<String> = ["a", "b"].repeat(args.len()).into_iter().map(str::to_owned).collect();
    let mut bytes = Vec::new();
    resp::eval(&mut bytes, "EVALSHA", &scripts.release.sha, &keys, args);
    bytes
}

#[tokio::test]
async fn calls_of_one_script_are_one_command_and_each_gets_its_own_answer() {
    let (scripts, (pipe, mut server, _driver)) = (Scripts::compose().unwrap(), connected());
    let first = share(&pipe, &scripts, later(), b"1");
    let plain = ask(&pipe, b"plain ");
    let second = share(&pipe, &scripts, later(), b"2");
    let served = async {
        assert_eq!(heard(&mut server).await, [&b"plain "[..], &command(&scripts, &[b"1", b"2"])].concat());
        server.write_all(b":0\r\n*2\r\n$1\r\nx\r\n-ERR no\r\n").await.unwrap();
    };
    let (first, plain, second, ()) = tokio::join!(first, plain, second, served);
    assert_eq!(
        [&first.unwrap()[..], &plain.unwrap(), &second.unwrap()],
        [&b"$1\r\nx\r\n"[..], b":0\r\n", b"-ERR no\r\n"]
    );
    // Refused as a whole: all of them hear why.
    let (first, second) = (share(&pipe, &scripts, later(), b"1"), share(&pipe, &scripts, later(), b"2"));
    let (first, second, ()) = tokio::join!(first, second, async {
        heard(&mut server).await;
        server.write_all(b"-NOSCRIPT No matching script.\r\n").await.unwrap();
    });
    assert_eq!(first.unwrap(), second.unwrap());
}

#[tokio::test]
async fn a_script_carries_no_more_calls_than_it_may() {
    let (scripts, (pipe, mut server, _driver)) = (Scripts::compose().unwrap(), connected());
    let calls: Vec<_> = (0..=CALLS_MAX).map(|_| share(&pipe, &scripts, later(), b"x")).collect();
    let most = [&b"x"[..]; CALLS_MAX];
    let wanted = [command(&scripts, &most), command(&scripts, &[b"x"])].concat();
    let mut bytes = Vec::new();
    while bytes.len() < wanted.len() {
        bytes.extend(heard(&mut server).await);
    }
    assert_eq!(bytes, wanted);
    server.write_all(format!("*{CALLS_MAX}\r\n{}*1\r\n:2\r\n", ":1\r\n".repeat(CALLS_MAX)).as_bytes()).await.unwrap();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), if number < CALLS_MAX { &b":1\r\n"[..] } else { b":2\r\n" });
    }
}

/// Redis shall work on the first calls while the others are made.
#[tokio::test]
async fn a_full_script_is_on_its_way_before_the_driver_runs() {
    let scripts = Scripts::compose().unwrap();
    let (ours, mut server) = duplex(64 << 10);
    let pipe = Arc::new(Pipe::default());
    let driver = Driver::new(pipe.clone(), Box::new(ours), 3);
    let calls: Vec<_> = (0..=CALLS_MAX).map(|_| share(&pipe, &scripts, later(), b"x")).collect();
    assert_eq!(heard(&mut server).await, command(&scripts, &[&b"x"[..]; CALLS_MAX]));
    let _driver = tokio::spawn(driver);
    assert_eq!(heard(&mut server).await, command(&scripts, &[b"x"]), "the rest, by the driver");
    drop(calls);
}

#[tokio::test]
async fn calls_that_a_full_socket_does_not_take_are_sent_later_and_once() {
    let scripts = Scripts::compose().unwrap();
    let (ours, mut server) = duplex(100);
    let pipe = Arc::new(Pipe::default());
    let driver = Driver::new(pipe.clone(), Box::new(ours), 3);
    let share_all = || (0..CALLS_MAX).map(|_| share(&pipe, &scripts, later(), b"x")).collect::<Vec<_>>();
    // The first ones fill the socket, which is not tried again before the driver has been told that there is room.
    let first = [share_all(), share_all()];
    let _driver = tokio::spawn(driver);
    tokio::task::yield_now().await;
    let second = share_all();
    let wanted = command(&scripts, &[&b"x"[..]; CALLS_MAX]).repeat(3);
    let mut bytes = Vec::new();
    while bytes.len() < wanted.len() {
        bytes.extend(heard(&mut server).await);
    }
    assert_eq!(bytes, wanted);
    drop((first, second));
}

#[tokio::test]
async fn a_call_that_is_given_up_takes_no_answer_of_those_it_shares_with() {
    let (scripts, (pipe, mut server, _driver)) = (Scripts::compose().unwrap(), connected());
    let hasty = share(&pipe, &scripts, Instant::now() + Duration::from_millis(20), b"1");
    let gone = share(&pipe, &scripts, later(), b"2");
    let patient = share(&pipe, &scripts, later(), b"3");
    drop(gone);
    assert_eq!(hasty.await, Err(Fault::Timeout));
    let (patient, ()) = tokio::join!(patient, async {
        assert_eq!(heard(&mut server).await, command(&scripts, &[b"1", b"2", b"3"]), "it is sent all the same");
        server.write_all(b"*3\r\n:1\r\n:2\r\n:3\r\n").await.unwrap();
    });
    assert_eq!(patient.unwrap(), b":3\r\n"[..]);
    assert!(pipe.state().calls.iter().filter(|call| matches!(call, Call::GivenUp | Call::Waiting(_))).count() == 0);
}

#[tokio::test]
async fn calls_that_are_no_command_yet_end_with_the_connection() {
    let scripts = Scripts::compose().unwrap();
    let (ours, theirs) = duplex(64);
    let pipe = Arc::new(Pipe::default());
    let driver = Driver::new(pipe.clone(), Box::new(ours), 3);
    let call = share(&pipe, &scripts, later(), b"1");
    drop((driver, theirs));
    assert!(matches!(call.await, Err(Fault::Lost(_))));
}

#[tokio::test]
async fn as_many_answers_as_calls_or_the_connection_ends() {
    let (scripts, (pipe, mut server, driver)) = (Scripts::compose().unwrap(), connected());
    let (one, two) = (share(&pipe, &scripts, later(), b"1"), share(&pipe, &scripts, later(), b"2"));
    let (one, two, ()) = tokio::join!(one, two, async {
        heard(&mut server).await;
        server.write_all(b"*1\r\n:1\r\n").await.unwrap();
    });
    assert!(matches!((one, two), (Err(Fault::Lost(_)), Err(Fault::Lost(_)))));
    assert!(driver.await.unwrap().contains("RESP"));
}
