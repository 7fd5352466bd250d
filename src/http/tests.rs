//! The transport over real sockets: limits, timeouts, keep-alive, credentials, drain. The engine
//! behind it is real; its ports are [`ports`], which answer nothing but "cannot be reached".

mod client;
mod patience;
mod ports;

use std::sync::Arc;

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};

use super::{Config, Health, Listeners, Service, Tokens, run};
use client::{Client, Got};

/// A server on ports of its own; stops when dropped.
struct Server {
    gateway: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    socket: tempfile::TempDir,
    health: Arc<Health>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Server {
    async fn start(config: Config) -> Self {
        let socket = tempfile::tempdir().unwrap();
        let listeners = Listeners {
            gateway: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            gateway_unix: Some(UnixListener::bind(socket.path().join("q.sock")).unwrap()),
            admin: Some(TcpListener::bind("127.0.0.1:0").await.unwrap()),
            threads: Vec::new(),
        };
        let gateway = listeners.gateway.as_ref().unwrap().local_addr().unwrap();
        let admin = listeners.admin.as_ref().unwrap().local_addr().unwrap();
        let health = Arc::new(Health::default());
        let exporter = Some(crate::metrics::install().unwrap());
        let service = Arc::new(Service {
            config,
            engine: ports::engine(),
            codes: ports::codes(),
            health: health.clone(),
            exporter,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(run(listeners, service, async {
            let _ = stopped.await;
        }));
        Self { gateway, admin, socket, health, stop: Some(stop), running }
    }

    async fn gateway(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.gateway).await.unwrap())
    }

    async fn admin(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.admin).await.unwrap())
    }

    fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

fn config() -> Config {
    Config { admin_tokens: Tokens::new(["root"]), ..Config::default() }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

#[track_caller]
fn problem(got: &Got, status: u16, code: &str) {
    assert_eq!((got.status, got.json()["code"].as_str()), (status, Some(code)), "{got:?}");
    assert_eq!(got.header("content-type"), Some("application/problem+json"));
    assert_eq!(got.json()["status"], status);
}

#[tokio::test]
async fn probes_are_open_on_both_listeners() {
    let server = Server::start(config()).await;
    for mut client in [server.gateway().await, server.admin().await] {
        assert_eq!(client.ask(&get("/healthz")).await.json()["status"], "ok");
        let not_yet = client.ask(&get("/readyz")).await;
        assert_eq!((not_yet.status, not_yet.json()["redis"].as_str()), (503, Some("unreachable")));
        assert_eq!(client.ask(&get("/openapi.json")).await.json()["openapi"], "3.1.0");
    }
    server.health.set_redis(true);
    server.health.set_scripts(true);
    let ready = server.admin().await.ask(&get("/readyz")).await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    let metrics = server.admin().await.ask(&get("/metrics")).await;
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    assert!(metrics.text().contains("quotad_requests_total{verb=\"other\",code=\"ok\"}"));
    problem(&server.gateway().await.ask(&get("/metrics")).await, 404, "not_found");
}

#[tokio::test]
async fn a_connection_is_kept_and_every_answer_has_a_request_id() {
    let server = Server::start(config()).await;
    let mut client = server.gateway().await;
    let named = client.ask("GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: mine-1\r\n\r\n").await;
    assert_eq!(named.header("x-request-id"), Some("mine-1"));
    let unnamed = client.ask(&get("/nowhere")).await;
    assert!(unnamed.header("x-request-id").unwrap().len() > 16);
    problem(&unnamed, 404, "not_found");
    let head = client.ask_head("HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    let pipelined = format!("{}{}", get("/healthz"), get("/nowhere"));
    client.send(&pipelined).await;
    assert_eq!((client.read().await.status, client.read().await.status), (200, 404));
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let server = Server::start(config()).await;
    let mut client = server.gateway().await;
    for (request, allow) in [
        (get("/v1/reserve"), "POST"),
        (post("/v1/accounts/a/balance", "", ""), "GET, HEAD"),
        ("DELETE /v1/authz HTTP/1.1\r\nhost: x\r\n\r\n".into(), "GET, HEAD, POST"),
    ] {
        let got = client.ask(&request).await;
        problem(&got, 405, "method_not_allowed");
        assert_eq!(got.header("allow"), Some(allow));
    }
}

#[tokio::test]
async fn credentials_open_their_own_listener() {
    let server = Server::start(Config { gateway_tokens: Tokens::new(["gate"]), ..config() }).await;
    let mut gateway = server.gateway().await;
    for headers in ["", "authorization: Bearer root\r\n", "authorization: Basic Z2F0ZQ==\r\n"] {
        let got = gateway.ask(&post("/v1/reserve", headers, "{}")).await;
        problem(&got, 401, "unauthorized");
        assert!(got.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    let got = gateway.ask(&post("/v1/reserve", "authorization: Bearer gate\r\n", "{}")).await;
    problem(&got, 400, "invalid_request");
    assert_eq!(got.json()["field"], "account");

    let mut admin = server.admin().await;
    problem(&admin.ask(&get("/admin/v1/accounts?limit=0")).await, 401, "unauthorized");
    let listing = "GET /admin/v1/accounts?limit=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer root\r\n\r\n";
    let got = admin.ask(listing).await;
    problem(&got, 400, "invalid_request");
    assert_eq!(got.json()["field"], "limit");
}

#[tokio::test]
async fn without_an_admin_token_the_admin_api_is_shut() {
    let server = Server::start(Config::default()).await;
    let got =
        server.admin().await.ask("GET /admin/v1/accounts HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \r\n\r\n").await;
    problem(&got, 401, "unauthorized");
}

#[tokio::test]
async fn authz_takes_the_gateway_token_apart_from_the_callers_key() {
    let server = Server::start(Config { gateway_tokens: Tokens::new(["gate"]), ..config() }).await;
    let mut client = server.gateway().await;
    // Past the credential, the bad amount is what is seen.
    let mut ask = async |headers: &str| {
        let got =
            client.ask(&format!("GET /v1/authz HTTP/1.1\r\nhost: x\r\nx-quota-amount: 1.0\r\n{headers}\r\n")).await;
        got.status
    };
    assert_eq!(ask("authorization: Bearer gate\r\n").await, 401, "it is the caller's key here");
    assert_eq!(ask("authorization: Bearer sk-1\r\nx-quota-token: gate\r\n").await, 400);
    assert_eq!(ask("authorization: Bearer gate\r\nx-quota-account: a\r\n").await, 400);
    assert_eq!(ask("authorization: Basic eDpnYXRl\r\nx-quota-account: a\r\n").await, 400);
    assert_eq!(ask("authorization: Bearer gate\r\nx-quota-account: a\r\nx-quota-token: wrong\r\n").await, 401);
}

#[tokio::test]
async fn bodies_have_a_bound_and_the_answer_arrives() {
    let server = Server::start(config()).await;
    let long = "x".repeat(65_537);
    let mut client = server.gateway().await;
    problem(&client.ask(&post("/v1/reserve", "", &long)).await, 413, "payload_too_large");
    let fits = format!("{{\"account\":\"{}\"}}", "x".repeat(65_536 - 14));
    problem(&server.gateway().await.ask(&post("/v1/reserve", "", &fits)).await, 400, "invalid_request");
    problem(&server.gateway().await.ask(&post("/v1/batch", "", &long)).await, 400, "invalid_request");
    problem(
        &server.gateway().await.ask(&post("/v1/batch", "", &"x".repeat((1 << 20) + 1))).await,
        413,
        "payload_too_large",
    );
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    let chunked =
        format!("POST /v1/reserve HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}1\r\nx\r\n0\r\n\r\n");
    problem(&server.gateway().await.ask(&chunked).await, 413, "payload_too_large");
}

#[tokio::test]
async fn heads_that_cannot_be_read_are_answered_like_everything_else() {
    let server = Server::start(config()).await;
    let many: String = (0..80).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x: {}\r\n", "x".repeat(20_000));
    for (fields, status) in [(&*many, 431), (&*long, 431), ("bad head\r\n", 400), ("x-request-id: \u{1}\r\n", 400)] {
        let got = server.gateway().await.ask(&format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{fields}\r\n")).await;
        problem(&got, status, "invalid_request");
        assert!(got.header("x-request-id").is_some());
        assert_eq!(got.header("connection"), Some("close"));
    }
    let mut client = server.gateway().await;
    assert_eq!(client.ask(&get("/healthz")).await.status, 200);
    problem(&client.ask("GET\r\n\r\n").await, 400, "invalid_request");
}

#[tokio::test]
async fn what_the_engine_cannot_tell_is_503() {
    let server = Server::start(config()).await;
    for (path, body) in [
        ("/v1/reserve", r#"{"account":"a","amount":1}"#),
        ("/v1/settle", r#"{"account":"a","id":"r","amount":1}"#),
        ("/v1/charge", r#"{"api_key":"sk-1","amount":1}"#),
        ("/v1/refund", r#"{"account":"a","op_id":"o","of":"r","amount":1}"#),
    ] {
        let got = server.gateway().await.ask(&post(path, "", body)).await;
        problem(&got, 503, "unavailable");
        assert_eq!(got.header("retry-after"), Some("1"));
        assert!(!got.text().contains("nobody"), "causes are for the log");
    }
    let put =
        "PUT /admin/v1/accounts/a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer root\r\ncontent-length: 2\r\n\r\n{}";
    problem(&server.admin().await.ask(put).await, 503, "unavailable");
}

#[tokio::test]
async fn the_gateway_speaks_over_a_unix_socket_too() {
    let server = Server::start(config()).await;
    let socket = UnixStream::connect(server.socket.path().join("q.sock")).await.unwrap();
    let mut client = Client::new(socket);
    assert_eq!(client.ask(&get("/healthz")).await.status, 200);
    problem(&client.ask(&post("/v1/settle", "", "{\"account\":\"a\"}")).await, 400, "invalid_request");
}

#[tokio::test]
async fn h2c_with_prior_knowledge_is_spoken() {
    let server = Server::start(config()).await;
    let got = client::h2(server.gateway, "/v1/reserve", "{\"amount\":1.0}").await;
    problem(&got, 400, "invalid_request");
    assert_eq!(got.json()["field"], "amount");
}

#[tokio::test]
async fn a_malformed_operation_does_not_spoil_its_batch() {
    let server = Server::start(config()).await;
    let body = r#"{"ops":[{"op":"reserve","account":"a","amount":1.5},5,{"op":"settle","account":"a"},{"op":"none"}]}"#;
    let got = server.gateway().await.ask(&post("/v1/batch", "", body)).await;
    assert_eq!(got.status, 200);
    let json = got.json();
    let fields: Vec<_> = json["ops"].as_array().unwrap().iter().map(|op| op["body"]["field"].as_str()).collect();
    assert_eq!(fields, [Some("amount"), None, Some("id"), Some("op")]);
    assert!(json["ops"].as_array().unwrap().iter().all(|op| op["status"] == 400));
}
