//! A small in-process quotad, for tests of the harness only: the verbs over a map behind a lock, with
//! faults that can be asked for. Whatever the harness must notice, this can do wrong.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{client::Target, price::Price, price::Tokens};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Nothing,
    /// Every 20th answer is lost after the work was done, and every 23rd call is refused with 503.
    Flaky,
    /// One unit too much is taken from the balance, and not told.
    SilentUnit,
    /// The answer and the books say one unit more than the cost.
    WrongCost,
    /// A repeated settle charges again.
    DoubleReplay,
    /// Expired holds are never given back.
    LeakedHold,
    /// Every 30th reserve is denied for no reason.
    NeedlessDenial,
    /// Denials hold the money all the same.
    CountedDenial,
    /// Reconcile reports a difference.
    Difference,
}

#[derive(Debug, Default)]
struct Counter {
    used: i64,
    held: i64,
    requests: i64,
    cap: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held,
    Settled,
    Released,
    Expired,
}

#[derive(Debug)]
struct Record {
    state: State,
    hold: i64,
    prompt_cost: i64,
    key: String,
    expires: Instant,
    reserve: Value,
    last: Value,
    answer: Value,
}

#[derive(Debug, Default)]
struct Account {
    balance: i64,
    held: i64,
    used: i64,
    requests: i64,
    keys: HashMap<String, Counter>,
    /// The limit as it was put, and its counter. Platforms are not told apart.
    limits: Vec<(Value, Counter)>,
    records: HashMap<String, Record>,
}

/// The server's state.
#[derive(Debug)]
pub struct Fake {
    fault: Fault,
    calls: AtomicU64,
    accounts: Mutex<HashMap<String, Account>>,
    prices: HashMap<String, Price>,
}

type Reply = (u16, Value);

impl Fake {
    /// Serves both listeners on one free port until the test ends.
    pub async fn serve(fault: Fault, models: &[&str]) -> Target {
        let prices = models.iter().map(|model| (*model).to_owned()).zip(Price::of(models).unwrap()).collect();
        let fake = Arc::new(Self { fault, calls: AtomicU64::new(0), accounts: Mutex::default(), prices });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let fake = Arc::clone(&fake);
                let service = service_fn(move |request| Arc::clone(&fake).answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        target
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let nth = self.calls.fetch_add(1, Ordering::Relaxed);
        let flaky = self.fault == Fault::Flaky && path.starts_with("/v1/");
        let (status, body) = if flaky && nth % 23 == 5 { (503, json!({})) } else { self.route(&path, &body, nth) };
        if flaky && nth % 20 == 7 {
            return Err(std::io::Error::other("the answer is lost"));
        }
        let body = Full::new(Bytes::from(body.to_string()));
        Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap()).map_err(|never| match never {})
    }

    fn route(&self, path: &str, body: &Value, nth: u64) -> Reply {
        let mut accounts = self.accounts.lock().unwrap();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts.as_slice() {
            ["admin", "v1", "reconcile"] => {
                let wrong = self.fault == Fault::Difference;
                (200, json!({"accounts": 1, "differences": if wrong { json!([{"what": "used"}]) } else { json!([]) }}))
            }
            ["admin", "v1", "accounts", name] => {
                put_account(accounts.entry((*name).to_owned()).or_default(), body);
                (201, json!({}))
            }
            ["admin", "v1", "accounts", name, "keys", key] => {
                let counter = Counter { cap: body["allowance"].as_i64(), ..Counter::default() };
                accounts.get_mut(*name).unwrap().keys.insert((*key).to_owned(), counter);
                (201, json!({}))
            }
            ["v1", "accounts", name, "balance"] => {
                let account = accounts.get_mut(*name).unwrap();
                if self.fault != Fault::LeakedHold {
                    account.sweep();
                }
                (200, account.sheet())
            }
            ["v1", verb] => {
                let account = accounts.get_mut(body["account"].as_str().unwrap()).unwrap();
                match *verb {
                    "reserve" => self.reserve(account, body, nth),
                    "settle" => self.settle(account, body),
                    _ => release(account, body),
                }
            }
            _ => (404, json!({"code": "not_found"})),
        }
    }

    fn reserve(&self, account: &mut Account, body: &Value, nth: u64) -> Reply {
        let id = body["id"].as_str().unwrap();
        let price = self.prices[body["model"].as_str().unwrap()];
        let prompt = body["estimate"]["prompt_tokens"].as_i64().unwrap();
        let hold = price.estimate(prompt, body["estimate"]["max_tokens"].as_i64().unwrap());
        if let Some(record) = account.records.get(id) {
            return match record.state {
                State::Held if record.reserve == *body => replayed(&json!({"outcome": "granted", "held": record.hold})),
                State::Held => (409, json!({"code": "conflict"})),
                State::Settled => (409, json!({"code": "already_settled"})),
                State::Released | State::Expired => (409, json!({"code": "already_released"})),
            };
        }
        let key = body["key"].as_str().unwrap();
        let denial = account.denial(key, hold);
        if self.fault == Fault::CountedDenial && denial.is_some() {
            account.held += hold;
        }
        if let Some(denial) = denial {
            return denial;
        }
        if self.fault == Fault::NeedlessDenial && nth % 30 == 3 {
            return (402, json!({"code": "insufficient_balance", "requested": hold, "available": 0}));
        }
        account.hold(key, hold);
        let record = Record {
            state: State::Held,
            hold,
            prompt_cost: price.prompt_part(prompt),
            key: key.to_owned(),
            expires: Instant::now() + Duration::from_millis(body["ttl_ms"].as_u64().unwrap()),
            reserve: body.clone(),
            last: Value::Null,
            answer: Value::Null,
        };
        account.records.insert(id.to_owned(), record);
        let available = account.balance - account.held;
        (200, json!({"outcome": "granted", "held": hold, "balance": account.balance, "available": available}))
    }

    fn settle(&self, account: &mut Account, body: &Value) -> Reply {
        account.sweep();
        let record = account.records.get_mut(body["id"].as_str().unwrap()).unwrap();
        if record.state == State::Settled {
            if record.last != *body {
                return (409, json!({"code": "conflict"}));
            }
            if self.fault == Fault::DoubleReplay {
                account.balance -= record.answer["charged"].as_i64().unwrap();
            }
            return replayed(&record.answer);
        }
        let price = self.prices[body["model"].as_str().unwrap()];
        let mut cost = match (body["outcome"].as_str(), body.get("usage")) {
            (_, Some(usage)) => price.cost(&tokens(usage)),
            (Some("client_abort"), None) => record.prompt_cost,
            _ => 0,
        };
        cost += i64::from(self.fault == Fault::WrongCost);
        let (late, hold, key) = (record.state == State::Expired, record.hold, record.key.clone());
        record.state = State::Settled;
        record.last = body.clone();
        if !late {
            account.hold(&key, -hold);
        }
        account.charge(&key, cost);
        account.balance -= i64::from(self.fault == Fault::SilentUnit);
        let overdraft = (-account.balance).max(0);
        let answer = json!({"outcome": "settled", "charged": cost, "returned": (hold - cost).max(0), "late": late,
            "unreserved": false, "overdraft": overdraft, "balance": account.balance});
        account.records.get_mut(body["id"].as_str().unwrap()).unwrap().answer = answer.clone();
        (200, answer)
    }
}

fn replayed(answer: &Value) -> Reply {
    let mut answer = answer.clone();
    answer["replayed"] = json!(true);
    (200, answer)
}

fn release(account: &mut Account, body: &Value) -> Reply {
    let id = body["id"].as_str().unwrap();
    let nothing = json!({"outcome": "released", "returned": 0});
    let Some(record) = account.records.get_mut(id) else { return (200, nothing) };
    match record.state {
        State::Settled => (409, json!({"code": "already_settled"})),
        State::Released => replayed(&json!({"outcome": "released", "returned": record.hold})),
        State::Expired => replayed(&nothing),
        State::Held => {
            record.state = State::Released;
            let (key, hold) = (record.key.clone(), record.hold);
            account.hold(&key, -hold);
            (200, json!({"outcome": "released", "returned": hold}))
        }
    }
}

fn put_account(account: &mut Account, body: &Value) {
    account.balance = body["initial_balance"].as_i64().unwrap();
    let limit = |limit: &Value| (limit.clone(), Counter { cap: limit["cap"].as_i64(), ..Counter::default() });
    account.limits = body["limits"].as_array().unwrap().iter().map(limit).collect();
}

impl Account {
    fn denial(&self, key: &str, hold: i64) -> Option<Reply> {
        let available = self.balance - self.held;
        if available < hold {
            return Some((402, json!({"code": "insufficient_balance", "requested": hold, "available": available})));
        }
        let counter = &self.keys[key];
        let left = counter.cap.map(|cap| cap - counter.used - counter.held);
        if left.is_some_and(|left| left < hold) {
            return Some((402, json!({"code": "key_exhausted", "requested": hold, "available": left})));
        }
        let over = |(_, counter): &&(Value, Counter)| counter.cap.unwrap() < counter.used + counter.held + hold;
        let violated: Vec<Value> = self.limits.iter().filter(over).map(shown).collect();
        (!violated.is_empty()).then(|| (429, json!({"code": "limit_exceeded", "violated": violated})))
    }

    fn hold(&mut self, key: &str, units: i64) {
        self.held += units;
        self.keys.get_mut(key).unwrap().held += units;
        for (limit, counter) in &mut self.limits {
            counter.held += if limit["metric"] == "requests" { units.signum() } else { units };
        }
    }

    fn charge(&mut self, key: &str, cost: i64) {
        self.balance -= cost;
        self.used += cost;
        self.requests += 1;
        let key = self.keys.get_mut(key).unwrap();
        (key.used, key.requests) = (key.used + cost, key.requests + 1);
        for (limit, counter) in &mut self.limits {
            counter.used += if limit["metric"] == "requests" { 1 } else { cost };
        }
    }

    fn sweep(&mut self) {
        let due: Vec<(String, i64)> = self
            .records
            .values_mut()
            .filter(|record| record.state == State::Held && Instant::now() >= record.expires)
            .map(|record| {
                record.state = State::Expired;
                (record.key.clone(), record.hold)
            })
            .collect();
        for (key, hold) in due {
            self.hold(&key, -hold);
        }
    }

    fn sheet(&self) -> Value {
        let key = |(name, key): (&String, &Counter)| json!({"key": name, "left": null, "used": key.used, "held": key.held, "requests": key.requests});
        json!({"balance": self.balance, "held": self.held, "available": self.balance - self.held, "used": self.used,
            "requests": self.requests, "keys": self.keys.iter().map(key).collect::<Vec<_>>(),
            "limits": self.limits.iter().map(shown).collect::<Vec<_>>()})
    }
}

fn shown((limit, counter): &(Value, Counter)) -> Value {
    let mut shown = limit.clone();
    shown["used"] = json!(counter.used);
    shown["held"] = json!(counter.held);
    shown["resets_at"] = json!("2026-11-21T00:00:00.000Z");
    shown
}

/// Reads any of the four shapes back.
fn tokens(usage: &Value) -> Tokens {
    let number = |path: &str| usage.pointer(path).and_then(Value::as_i64).unwrap_or(0);
    let cached = number("/prompt_tokens_details/cached_tokens")
        + number("/input_tokens_details/cached_tokens")
        + number("/cachedContentTokenCount");
    let prompt = number("/prompt_tokens") + number("/input_tokens") + number("/promptTokenCount");
    let answer = number("/completion_tokens") + number("/output_tokens") + number("/candidatesTokenCount");
    Tokens {
        input: prompt - cached,
        cache_read: cached + number("/cache_read_input_tokens"),
        cache_write_5m: number("/cache_creation/ephemeral_5m_input_tokens"),
        cache_write_1h: number("/cache_creation/ephemeral_1h_input_tokens"),
        output: answer + number("/thoughtsTokenCount"),
    }
}
