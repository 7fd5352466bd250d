//! Faults, done.

use std::time::{Duration, Instant};

use super::{dice::Dice, fault::Fault, proxy::Mode, redis_files, world::World};

/// How long all goes well between a first and a second restart of Redis.
const BETWEEN_RESTARTS: Duration = Duration::from_millis(200);
/// How long write-back's lease lives without its holder.
const LEASE_MS: u64 = 3000;
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// A replica must have caught up by then, or there is none.
const REPLICA_READY: Duration = Duration::from_secs(10);

fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

impl World {
    /// Does one fault to its end: afterwards everything runs again, ready or not.
    pub fn inject(&mut self, fault: &Fault, dice: &mut Dice) {
        let loses = fault.loses() || fault.kills_redis() && self.postpones();
        self.findings.fault(loses, format!("{fault:?}"));
        match fault {
            Fault::KillSidecar(number) => self.sidecars[*number].kill(),
            Fault::KillSidecars => self.kill_sidecars(),
            Fault::KillRedis => self.redis.restart(),
            Fault::KillBoth => {
                self.redis.kill();
                self.kill_sidecars();
                self.redis.restart();
            }
            Fault::CutBlocks { .. }
            | Fault::CutBytes { .. }
            | Fault::CutInside
            | Fault::TotalLoss
            | Fault::CopyRedis
            | Fault::RestoreRedis => self.change_files(fault, dice),
            Fault::Failover(lag_ms) => self.fail_over(*lag_ms),
            Fault::FreezeRedis(ms) => {
                self.redis.signal("STOP");
                sleep_ms(*ms);
                self.redis.signal("CONT");
            }
            Fault::FreezeSidecar(number, ms) => {
                // Past its lease: then it must be the one that has it.
                let number = if *ms > LEASE_MS { self.lease_holder().unwrap_or(*number) } else { *number };
                self.sidecars[number].signal("STOP");
                sleep_ms(*ms);
                self.sidecars[number].signal("CONT");
            }
            Fault::LostReplies(ms) => self.lose_replies(*ms),
            Fault::CutConnections => {
                if let Some(proxy) = &self.proxy {
                    proxy.cut();
                }
            }
            Fault::FlushScripts(ms) => self.flush_scripts(Duration::from_millis(*ms)),
            Fault::SqlLocked(ms) => self.sql.hold(&self.runtime, Duration::from_millis(*ms)),
            Fault::SqlKilled(ms) => self.sql.kill(&self.runtime, Duration::from_millis(*ms)),
            Fault::SqlOldCopy(ms) => self.restore_sql(*ms),
            Fault::CopySql => {
                self.kill_sidecars();
                self.sql.copy_to(&self.folder().join("sql-copy"));
            }
            Fault::LoseEverything => {
                self.kill_sidecars();
                self.redis.kill();
                redis_files::wipe(self.redis.folder());
                self.sql.restore_from(&self.folder().join("sql-copy"));
                self.redis.restart();
            }
            // The clients' phase is not the processes' concern.
            Fault::Quiet(_) => {}
            Fault::OutOfMemory(ms) => {
                self.config("maxmemory", "1");
                sleep_ms(*ms);
                self.config("maxmemory", "0");
            }
            Fault::FailPoint { sidecar, name, after } => {
                self.sidecars[*sidecar].start(Some(&format!("{name}={after}*off->1*panic")));
                sleep_ms(150);
            }
        }
        self.findings.fault_over();
        self.refresh();
    }

    /// What happens to Redis' folder.
    fn change_files(&mut self, fault: &Fault, dice: &mut Dice) {
        let copy = self.folder().join("redis-copy");
        if *fault == Fault::CopyRedis {
            self.redis.signal("STOP");
            redis_files::copy_to(self.redis.folder(), &copy);
            self.redis.signal("CONT");
            return;
        }
        self.redis.kill();
        let folder = self.redis.folder();
        let (said, twice) = match fault {
            Fault::CutBlocks { most, twice } => (redis_files::cut_blocks(folder, *most, dice), *twice),
            Fault::CutBytes { most, twice } => (redis_files::cut_bytes(folder, *most, dice), *twice),
            Fault::CutInside => (redis_files::cut_inside(folder), true),
            Fault::RestoreRedis => {
                redis_files::restore_from(folder, &copy);
                ("from the copy".to_owned(), false)
            }
            _ => {
                redis_files::wipe(folder);
                ("everything".to_owned(), false)
            }
        };
        self.restart_redis(twice, said);
    }

    /// Whether Redis answers before it writes: with `appendfsync everysec` it postpones writing for up to two seconds
    /// while a flush is under way, which takes that long where the machine is busy.
    fn postpones(&self) -> bool {
        let Some(mut redis) = self.redis.try_connect() else { return false };
        let info: String = redis::cmd("INFO").arg("persistence").query(&mut redis).unwrap_or_default();
        let is = |line: &str| info.lines().any(|said| said == line);
        is("aof_pending_bio_fsync:1") || !is("aof_buffer_length:0")
    }

    /// The sidecar that does the write-back.
    fn lease_holder(&self) -> Option<usize> {
        let holder: String = redis::cmd("GET").arg("q-lease/writeback").query(&mut self.redis.connect()).ok()?;
        self.sidecars.iter().position(|sidecar| sidecar.id().as_deref() == Some(holder.as_str()))
    }

    fn kill_sidecars(&mut self) {
        self.addresses.lock().expect("addresses").clear();
        self.sidecars.iter_mut().for_each(super::sidecar::Sidecar::kill);
    }

    fn restart_redis(&mut self, twice: bool, said: String) {
        self.redis.restart();
        self.findings.fault_over();
        self.findings.fault(false, format!("  {said}"));
        if twice {
            self.wait_ready(false);
            std::thread::sleep(BETWEEN_RESTARTS);
            self.findings.fault_over();
            // The second restart alone loses nothing more.
            self.findings.fault(self.postpones(), "  restarted once more".into());
            self.redis.restart();
        }
    }

    fn lose_replies(&mut self, ms: u64) {
        let Some(proxy) = &self.proxy else { return };
        proxy.set(Mode::SwallowAnswers);
        sleep_ms(ms);
        proxy.cut();
        proxy.set(Mode::Pass);
    }

    fn flush_scripts(&self, within: Duration) {
        let mut connection = self.redis.connect();
        let begun = Instant::now();
        while begun.elapsed() < within {
            let _ = redis::cmd("SCRIPT").arg("FLUSH").query::<()>(&mut connection);
            std::thread::sleep(FLUSH_PAUSE);
        }
    }

    fn config(&self, name: &str, value: &str) {
        let mut connection = self.redis.connect();
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query::<()>(&mut connection).expect("CONFIG SET");
    }

    /// The database as it was a while ago; Redis still has what came after.
    fn restore_sql(&mut self, age_ms: u64) {
        let copy = self.folder().join("sql-copy");
        self.kill_sidecars();
        if !self.sql.copy_to(&copy) {
            return;
        }
        self.wait_ready(true);
        sleep_ms(age_ms);
        self.kill_sidecars();
        self.sql.restore_from(&copy);
    }

    /// The replica hears nothing for a while, then takes over.
    fn fail_over(&mut self, lag_ms: u64) {
        // Should this panic, the replica ends before its link does.
        let Some(pair) = self.replica.take() else { return };
        let (replica, link) = (&pair.0, &pair.1);
        let begun = Instant::now();
        let linked = || {
            let info: String = redis::cmd("INFO").arg("replication").query(&mut replica.connect()).unwrap_or_default();
            info.contains("master_link_status:up")
        };
        while !linked() {
            assert!(begun.elapsed() < REPLICA_READY, "the replica does not follow");
            sleep_ms(5);
        }
        link.set(Mode::SwallowAnswers);
        sleep_ms(lag_ms);
        self.redis.kill();
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").query::<()>(&mut replica.connect()).expect("REPLICAOF NO ONE");
        if let Some(proxy) = &self.proxy {
            proxy.lead_to(replica.socket());
        }
        self.redis = pair.0;
    }
}
