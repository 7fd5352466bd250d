//! One run from beginning to end: server, accounts, calls, audit, report.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    audit::Audit,
    cli::{RunArgs, ServerArgs},
    client::{Client, Target, Waits},
    drive::{self, Extent, Pace},
    journal::Journal,
    kill::{Kills, Victim, keep_killing},
    lag::{self, Lag},
    ledger::Ledger,
    life::Stage,
    meter::Meter,
    report::Report,
    resp::Resp,
    setup,
    spawn::Server,
    wire::LimitState,
    workload::Workload,
};

/// Connections to the admin listener.
const ADMIN_CONNECTIONS: usize = 8;
/// The admin API may take longer: reconcile looks at every account.
const ADMIN_ATTEMPT: Duration = Duration::from_secs(120);
const REDRAW: Duration = Duration::from_millis(200);

/// The server under test, ours or another's, and clients for it.
pub struct Place {
    pub gateway: Target,
    pub admin: Arc<Client>,
    pub spawned: Option<Server>,
    pub redis: Option<Target>,
}

impl Place {
    /// # Errors
    /// A sentence when the server cannot be started or an address or token is wrong.
    pub async fn find(args: &ServerArgs) -> Result<Self, String> {
        let redis = args.redis.as_deref().map(Target::parse).transpose()?;
        let waits = Waits { attempt: ADMIN_ATTEMPT, ..args.waits() };
        let admin = |target, token: &str| Arc::new(Client::new(target, Some(token), ADMIN_CONNECTIONS, waits));
        let Some(program) = &args.spawn else {
            let (gateway, at) = args.targets()?;
            return Ok(Self { gateway, admin: admin(at, &args.admin_token()?), spawned: None, redis });
        };
        let mut more = args.spawn_arg.clone();
        let socket = Target::parse(&args.gateway).ok().filter(|target| matches!(target, Target::Unix(_)));
        if let Some(Target::Unix(path)) = &socket {
            more.extend(["--gateway-socket".to_owned(), path.clone()]);
        }
        let server = Server::start(program, &more).await?;
        let redis = redis.unwrap_or_else(|| Target::Unix(server.redis().display().to_string()));
        Ok(Self {
            gateway: socket.unwrap_or_else(|| server.gateway.clone()),
            admin: admin(server.admin.clone(), &server.admin_token),
            spawned: Some(server),
            redis: Some(redis),
        })
    }

    /// Stops the server if it is ours.
    ///
    /// # Errors
    /// A sentence when it does not stop well.
    pub async fn leave(self) -> Result<(), String> {
        match self.spawned {
            Some(server) => server.stop().await,
            None => Ok(()),
        }
    }
}

/// Makes the run; whether all was right.
///
/// # Errors
/// A sentence when the run could not be made.
pub async fn run(args: &RunArgs) -> Result<bool, String> {
    let workload = Workload::new(args.profile()?, args.seed)?;
    let pace = args.pace(&workload.profile)?;
    let extent = args.extent(workload.trace.rows.len());
    let run = args.run.clone().unwrap_or_else(|| format!("{:08x}", rand::random::<u32>()));
    let place = Place::find(&args.server).await?;
    let result = perform(args, &place, workload, &run, pace, extent).await;
    let stopped = place.leave().await;
    let report = result?;
    stopped?;
    Ok(report.ok)
}

async fn perform(
    args: &RunArgs,
    place: &Place,
    workload: Workload,
    run: &str,
    pace: Pace,
    extent: Extent,
) -> Result<Report, String> {
    let connections = workload.profile.connections;
    let token = args.server.gateway_token.as_deref();
    let gateway = Client::new(place.gateway.clone(), token, connections as usize, args.server.waits());
    let journal = Journal::open(&workload, run, args.journal.as_deref())?;
    let stage = Arc::new(Stage::new(workload, journal, gateway, Meter::new()?));
    let opening = set_up(place, &stage).await?;
    let mut redis = match (&place.redis, args.redis_stats) {
        (Some(target), true) => Some(Resp::connect(target).await?),
        (None, true) => return Err("--redis-stats needs --redis".into()),
        (_, false) => None,
    };
    if let Some(redis) = &mut redis {
        redis.reset_stats().await?;
    }

    let (elapsed, kills, lag) = make_calls(args, place, &stage, pace, extent).await?;
    let stats = match &mut redis {
        Some(redis) => Some(redis.script_stats().await?),
        None => None,
    };
    eprintln!("auditing {} accounts", stage.journal.names().len());
    let mut report = Report {
        mode: if matches!(pace, Pace::Closed { .. }) { "closed" } else { "open" },
        ..Report::about(run, &args.profile, args.seed, &stage.workload.profile)
    };
    report.redis = stats;
    (report.kills, report.lag) = (kills, lag);
    report.measure(&stage.meter, &stage.gateway.retries, elapsed);
    // Without an audit there still is something to report: that there was none.
    let audit = audit(args, place, &stage, run, &opening).await.unwrap_or_else(|problem| {
        stage.journal.finding(format!("the audit could not be made: {problem}"));
        crate::audit::Findings::default()
    });
    report.conclude(stage.journal.findings(), audit);
    stage.journal.close()?;
    println!("{}", report.table());
    if let Some(path) = &args.json {
        report.save(path)?;
    }
    Ok(report)
}

async fn set_up(place: &Place, stage: &Stage) -> Result<Vec<LimitState>, String> {
    let bar = bar("accounts", Some(stage.journal.names().len() as u64));
    let created = setup::create(&place.admin, &stage.gateway, &stage.workload, &stage.journal, || bar.inc(1)).await;
    bar.finish_and_clear();
    created
}

async fn make_calls(
    args: &RunArgs,
    place: &Place,
    stage: &Arc<Stage>,
    pace: Pace,
    extent: Extent,
) -> Result<(Duration, Option<Kills>, Lag), String> {
    let stop = Arc::new(AtomicBool::new(false));
    let bar = bar("calls", (extent.calls != u64::MAX).then_some(extent.calls));
    let watching = async {
        let mut redraw = tokio::time::interval(REDRAW);
        loop {
            tokio::select! {
                _ = redraw.tick() => bar.set_position(stage.meter.calls.load(Ordering::Relaxed)),
                // What was begun is ended and audited.
                Ok(()) = tokio::signal::ctrl_c() => stop.store(true, Ordering::Relaxed),
            }
        }
    };
    let killing = async {
        let Some(victim) = args.kill.as_deref().map(Victim::parse) else { return Ok(None) };
        let every = Duration::from_secs_f64(args.kill_every);
        keep_killing(&victim, every, place, &stage.gateway, &stop).await.map(Some)
    };
    let driving = async {
        let elapsed = drive::drive(stage, pace, extent, &stop).await;
        stop.store(true, Ordering::Relaxed);
        elapsed
    };
    let (elapsed, kills, lag) = tokio::select! {
        all = async { tokio::join!(driving, killing, lag::watch(&place.admin, &stop)) } => all,
        () = watching => unreachable!("the watcher has no end"),
    };
    bar.finish_and_clear();
    Ok((elapsed?, kills?, lag))
}

async fn audit(
    args: &RunArgs,
    place: &Place,
    stage: &Arc<Stage>,
    run: &str,
    opening: &[LimitState],
) -> Result<crate::audit::Findings, String> {
    stage.resolve().await?;
    let default = place.spawned.as_ref().and_then(Server::database);
    let ledger = match args.database.clone().or(default) {
        Some(path) => Some(Ledger::open(&path, run).await?),
        None => None,
    };
    let token = args.server.gateway_token.as_deref();
    let gateway = Client::new(place.gateway.clone(), token, ADMIN_CONNECTIONS, args.server.waits());
    let audit = Audit {
        gateway: &Arc::new(gateway),
        admin: &place.admin,
        limits: &stage.workload.profile.limits,
        opening,
        deadline: Duration::from_secs(args.audit_deadline),
    };
    audit.run(&stage.journal.expected(&stage.workload), ledger.as_ref()).await
}

/// Drawn only where somebody can see it.
fn bar(what: &'static str, length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {pos} {per_sec} {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}
