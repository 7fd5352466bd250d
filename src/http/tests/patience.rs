//! Who is slow, who is idle, who is too many, and who is left when the server goes.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Client, Config, Server, config, get, problem};

fn impatient() -> Config {
    let [header_timeout, body_timeout, idle_timeout] = [100, 100, 600].map(Duration::from_millis);
    Config { header_timeout, body_timeout, idle_timeout, ..config() }
}

/// Bytes until the server closes, and whether it closed before `within`.
async fn closed(client: &mut Client<TcpStream>, within: Duration) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(within, client.socket.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn who_dribbles_a_head_is_cut_off() {
    let server = Server::start(impatient()).await;
    for begin in ["", "G", "GET /healthz HTTP/1.1\r\nhost:", "PRI * HTTP/2.0\r\n"] {
        let mut client = server.gateway().await;
        client.send(begin).await;
        let began = tokio::time::Instant::now();
        assert!(closed(&mut client, Duration::from_secs(20)).await, "{begin:?}");
        assert!(began.elapsed() >= Duration::from_millis(50), "{begin:?}");
    }
    // A byte now and then does not help.
    let mut client = server.gateway().await;
    let dribble = async {
        loop {
            if client.socket.write_all(b"G").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), dribble).await.is_ok());
}

#[tokio::test]
async fn a_quiet_connection_has_more_time_than_a_head() {
    let server = Server::start(impatient()).await;
    let mut client = server.gateway().await;
    client.ask(&get("/healthz")).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(client.ask(&get("/healthz")).await.status, 200, "longer than the head's time, shorter than idle");
    assert!(closed(&mut client, Duration::from_secs(20)).await);
}

#[tokio::test]
async fn who_dribbles_a_body_is_told() {
    let server = Server::start(impatient()).await;
    let mut client = server.gateway().await;
    client.send("POST /v1/reserve HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{\"acc").await;
    problem(&client.read().await, 408, "request_timeout");
}

#[tokio::test]
async fn a_database_that_never_answers_hangs_nobody() {
    let server = Server::start(Config { admin_budget: Duration::from_millis(100), ..config() }).await;
    let reserve = r#"{"account":"slow","id":"r","amount":1}"#;
    let lane = vec![r#"{"op":"reserve","account":"slow","id":"r","amount":1}"#; 256].join(",");
    let balance = get("/v1/accounts/slow/balance");
    for (asked, status) in [
        (super::post("/v1/reserve", "", reserve), 503),
        (super::post("/v1/settle", "", reserve), 503),
        (balance, 503),
        // Operations of one reservation wait for each other.
        (super::post("/v1/batch", "", &format!(r#"{{"ops":[{lane}]}}"#)), 200),
    ] {
        let begun = tokio::time::Instant::now();
        let got = server.gateway().await.ask(&asked).await;
        assert_eq!(got.status, status, "{got:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{asked}: {:?}", begun.elapsed());
        if status == 200 {
            let answers = got.json();
            assert!(answers["ops"].as_array().unwrap().iter().all(|answer| answer["status"] == 503));
        } else {
            assert_eq!(got.header("retry-after"), Some("1"));
        }
    }
    let admin = "GET /admin/v1/accounts/slow HTTP/1.1\r\nhost: x\r\nauthorization: Bearer root\r\n\r\n";
    problem(&server.admin().await.ask(admin).await, 503, "unavailable");
}

#[tokio::test]
async fn connections_over_the_cap_wait_for_one_to_end() {
    let server = Server::start(Config { connections_max: 1, ..config() }).await;
    let mut first = server.gateway().await;
    assert_eq!(first.ask(&get("/healthz")).await.status, 200);
    let mut second = server.gateway().await;
    second.send(&get("/healthz")).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), second.read()).await.is_err());
    assert_eq!(server.admin().await.ask(&get("/healthz")).await.status, 200, "admin has its own");
    drop(first);
    assert_eq!(second.read().await.status, 200);
}

#[tokio::test]
async fn shutdown_lets_open_requests_end_and_cuts_the_rest() {
    let mut server = Server::start(Config { drain_deadline: Duration::from_millis(300), ..config() }).await;
    let mut idle = server.gateway().await;
    idle.ask(&get("/healthz")).await;
    let mut open = server.gateway().await;
    open.send("POST /v1/reserve HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{").await;
    let mut stuck = server.gateway().await;
    stuck.send("POST /v1/reserve HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{").await;
    // Answered on the same listener, so the two before it have been accepted.
    server.gateway().await.ask(&get("/healthz")).await;
    server.stop();
    assert!(closed(&mut idle, Duration::from_secs(20)).await);
    open.send("}").await;
    let got = open.read().await;
    problem(&got, 400, "invalid_request");
    assert_eq!(got.header("connection"), Some("close"));
    assert!(!server.health.is_ready());
    assert!(closed(&mut stuck, Duration::from_secs(20)).await);
    tokio::time::timeout(Duration::from_secs(20), &mut server.running).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.gateway).await.is_err());
}
