//! Whole runs against the small server of `fake`: what is right must pass, and each of its faults
//! must be found.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::Parser;
use tempfile::TempDir;
use tokio::process::Child;

use crate::{
    audit::{Audit, Findings},
    cli::{Cli, Command},
    client::{Client, Target, Waits},
    drive::{Extent, Pace, drive},
    fake::{Fake, Fault},
    journal::Journal,
    life::Stage,
    meter::{Meter, Verb},
    profile::Profile,
    resp::Resp,
    setup,
    workload::Workload,
};

const WAITS: Waits = Waits { attempt: Duration::from_secs(10), patience: Duration::from_secs(20) };

/// A run over and audited.
struct Outcome {
    stage: Arc<Stage>,
    findings: Vec<String>,
    audit: Findings,
}

impl Outcome {
    fn clean(&self) -> bool {
        self.findings.is_empty() && self.audit.clean()
    }
}

fn profile() -> Profile {
    let mut profile = Profile::load("conv").unwrap();
    profile.accounts = 20;
    profile.connections = 8;
    profile.lost_ttl_ms = 1000;
    profile.token_ms = 1.0;
    profile.tight_amount = 8_000_000;
    profile.shares.late = 0.01;
    profile.shares.repeat = 0.2;
    profile.shares.tight_accounts = 0.3;
    profile
}

async fn run(fault: Fault, profile: Profile, pace: Pace, calls: u64) -> Outcome {
    // Holds that expire have time to; what is wrong stays wrong.
    let deadline = Duration::from_secs(if profile.shares.lost == 0.0 { 0 } else { 3 });
    let workload = Workload::new(profile, 5).unwrap();
    let models: Vec<&str> = workload.profile.models.iter().map(|model| model.model.as_str()).collect();
    let target = Fake::serve(fault, &models).await;
    let connections = workload.profile.connections as usize;
    let gateway = Client::new(target.clone(), None, connections, WAITS);
    let admin = Arc::new(Client::new(target.clone(), Some("token"), 2, WAITS));
    let journal = Journal::open(&workload, "t", None).unwrap();
    let stage = Arc::new(Stage::new(workload, journal, gateway, Meter::new().unwrap()));
    let opening = setup::create(&admin, &stage.gateway, &stage.workload, &stage.journal, || ()).await.unwrap();
    let extent = Extent { calls, duration: None };
    drive(&stage, pace, extent, &Arc::new(AtomicBool::new(false))).await.unwrap();
    stage.resolve().await.unwrap();
    let audit = Audit {
        gateway: &Arc::new(Client::new(target, None, 2, WAITS)),
        admin: &admin,
        limits: &stage.workload.profile.limits,
        opening: &opening,
        deadline,
    };
    let audit = audit.run(&stage.journal.expected(&stage.workload), None).await.unwrap();
    let findings = stage.journal.findings().0;
    Outcome { stage, findings, audit }
}

const CLOSED: Pace = Pace::Closed { callers: 8 };

#[tokio::test]
async fn a_closed_loop_is_exact() {
    let outcome = run(Fault::Nothing, profile(), CLOSED, 1500).await;
    assert!(outcome.clean(), "{:?} {:?}", outcome.findings, outcome.audit);
    let denials = outcome.stage.meter.denials();
    for code in ["insufficient_balance", "key_exhausted", "limit_exceeded"] {
        assert!(denials.contains_key(code), "{code} in {denials:?}");
    }
    for verb in [Verb::Reserve, Verb::Settle, Verb::Release, Verb::Repeat] {
        assert!(outcome.stage.meter.percentiles(verb).is_some(), "{verb:?}");
    }
    assert_eq!(outcome.stage.meter.calls.load(std::sync::atomic::Ordering::Relaxed), 1500);
}

#[tokio::test]
async fn an_open_loop_is_exact_and_keeps_its_times() {
    let begun = std::time::Instant::now();
    let outcome = run(Fault::Nothing, profile(), Pace::Rate { per_second: 500.0 }, 600).await;
    assert!(outcome.clean(), "{:?} {:?}", outcome.findings, outcome.audit);
    assert!(begun.elapsed() >= Duration::from_millis(1198));
    assert_eq!(outcome.stage.meter.percentiles(Verb::Start).unwrap().count, 600);
    let outcome = run(Fault::Nothing, profile(), Pace::Trace { speed: 600.0 }, 600).await;
    assert!(outcome.clean(), "{:?} {:?}", outcome.findings, outcome.audit);
}

#[tokio::test]
async fn lost_answers_and_refusals_are_repeated_and_still_exact() {
    let outcome = run(Fault::Flaky, profile(), CLOSED, 1500).await;
    assert!(outcome.clean(), "{:?} {:?}", outcome.findings, outcome.audit);
    let retries = outcome.stage.gateway.retries.counts();
    assert!(retries[0].1 > 10 && retries[2].1 > 10, "{retries:?}");
}

/// Runs with a fault; what the audit found wrong first, and the first finding.
async fn faulty(fault: Fault) -> (String, String) {
    let mut profile = profile();
    if fault != Fault::LeakedHold {
        profile.shares.lost = 0.0;
        profile.shares.late = 0.0;
    }
    let Outcome { findings, audit, .. } = run(fault, profile, CLOSED, 600).await;
    if let Some(mismatch) = audit.live.first() {
        assert!(mismatch.account.starts_with("load-t-") && mismatch.journal != mismatch.server, "{mismatch:?}");
    }
    assert_eq!(audit.reconcile.is_empty(), fault != Fault::Difference);
    let what = audit.live.first().map(|mismatch| mismatch.what.clone());
    (what.unwrap_or_default(), findings.first().cloned().unwrap_or_default())
}

#[tokio::test]
async fn every_fault_is_found() {
    assert_eq!(faulty(Fault::Nothing).await, (String::new(), String::new()));
    assert_eq!(faulty(Fault::Difference).await, (String::new(), String::new()));
    assert_eq!(faulty(Fault::SilentUnit).await.0, "balance");
    assert_eq!(faulty(Fault::DoubleReplay).await.0, "balance");
    assert_eq!(faulty(Fault::LeakedHold).await.0, "held");
    assert_eq!(faulty(Fault::CountedDenial).await.0, "held");
    let (mismatch, finding) = faulty(Fault::WrongCost).await;
    assert!(mismatch == "balance" && finding.contains("the cost is"), "{mismatch}: {finding}");
    let (mismatch, finding) = faulty(Fault::NeedlessDenial).await;
    assert!(mismatch.is_empty() && finding.contains("although"), "{mismatch}: {finding}");
}

/// A redis-server on a socket of its own, ready to answer.
pub(crate) async fn redis_server() -> (Child, Target, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("r.sock").display().to_string();
    let mut server = tokio::process::Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", &socket, "--save", "", "--dir"])
        .arg(folder.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is installed");
    let target = Target::Unix(socket);
    while Resp::connect(&target).await.is_err() {
        assert!(server.try_wait().unwrap().is_none(), "redis-server ended");
        tokio::task::yield_now().await;
    }
    (server, target, folder)
}

/// The fake calls no scripts: the phases must all be there, and the reference be counted.
#[tokio::test]
async fn redis_cost_measures_every_verb_beside_the_reference() {
    let (mut server, redis, folder) = redis_server().await;
    let models = Profile::load("conv").unwrap().models;
    let models: Vec<&str> = models.iter().map(|model| model.model.as_str()).collect();
    let (Target::Tcp(address), Target::Unix(socket)) = (Fake::serve(Fault::Nothing, &models).await, redis) else {
        unreachable!("the fake serves TCP, Redis a socket")
    };
    let json = folder.path().join("cost.json");
    let line = format!(
        "quotad-loadtest redis-cost --gateway {address} --admin {address} --admin-token t --redis unix:{socket} \
         --requests 40 --accounts 4 --connections 2 --json {}",
        json.display()
    );
    let Command::RedisCost(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else {
        unreachable!("the line says redis-cost")
    };
    assert_eq!(crate::redis_cost::run(&args).await, Ok(()));
    let phases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let names: Vec<&str> = phases.iter().filter_map(|phase| phase["phase"].as_str()).collect();
    assert_eq!(names, ["(nobody calls)", "reserve", "settle", "reserve again", "release", "one HINCRBY"]);
    assert_eq!(phases[5]["script_calls"], 50_000);
    assert_eq!((&phases[5]["times_reference"], &phases[1]["script_calls"]), (&1.0.into(), &0.into()));
    server.kill().await.unwrap();
}

/// The program as it is called, from flags to the result file.
#[tokio::test]
async fn a_run_from_the_command_line() {
    let workload = Workload::new(profile(), 5).unwrap();
    let models: Vec<&str> = workload.profile.models.iter().map(|model| model.model.as_str()).collect();
    let folder = tempfile::tempdir().unwrap();
    let [json, journal] = ["result.json", "journal.jsonl"].map(|name| folder.path().join(name));
    for (fault, right) in [(Fault::Nothing, true), (Fault::SilentUnit, false)] {
        let Target::Tcp(address) = Fake::serve(fault, &models).await else { unreachable!("the fake serves TCP") };
        let line = format!(
            "quotad-loadtest run --gateway {address} --admin http://{address} --admin-token t --speed max --requests 300 \
             --accounts 5 --connections 4 --run x --audit-deadline 5 --json {} --journal {}",
            json.display(),
            journal.display()
        );
        let Command::Run(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command else { unreachable!() };
        assert_eq!(crate::run::run(&args).await, Ok(right));
        let result: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!((&result["ok"], &result["calls"]), (&right.into(), &300.into()));
        assert_eq!(result["audit"]["live"].as_array().unwrap().is_empty(), right);
        let lines = std::fs::read_to_string(&journal).unwrap();
        assert!(lines.lines().all(|line| line.contains("\"account\":\"load-x-")) && lines.lines().count() > 500);
    }
}

/// The arithmetic of an in-doubt call: nobody answers for longer than we wait, then somebody does.
#[tokio::test]
async fn a_server_that_is_away_leaves_doubts_that_fail_the_run() {
    let workload = Workload::new(profile(), 5).unwrap();
    let waits = Waits { attempt: Duration::from_millis(200), patience: Duration::from_millis(100) };
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let away = Target::Tcp(listener.local_addr().unwrap().to_string());
    drop(listener);
    let journal = Journal::open(&workload, "t", None).unwrap();
    let gateway = Client::new(away, None, 1, waits);
    let stage = Arc::new(Stage::new(workload, journal, gateway, Meter::new().unwrap()));
    let call = stage.workload.call(0);
    stage.live(call, crate::schedule::Due::at(std::time::Instant::now())).await;
    let problem = stage.resolve().await.unwrap_err();
    assert!(problem.contains("1 calls were never answered"), "{problem}");
}
