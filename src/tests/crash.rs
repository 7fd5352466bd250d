//! Every row of the crash table and every kind of fault, each a test with a name: real sidecars, Redis and
//! SQL servers, killed and cut at the named place. Needs the feature `faults` for the crash points.

/// One test for each database, from functions that take one.
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod sqlite { $( #[test] fn $test() { super::$test(crate::database::Backend::Sqlite); } )* }
        mod postgres { $( #[test] fn $test() { super::$test(crate::database::Backend::Postgres); } )* }
        mod mariadb { $( #[test] fn $test() { super::$test(crate::database::Backend::MariaDb); } )* }
    };
}

#[path = "crash/audit.rs"]
mod audit;
#[path = "crash/clock.rs"]
mod clock;
#[path = "crash/codes.rs"]
mod codes;
#[path = "crash/connections.rs"]
mod connections;
#[path = "crash/copies.rs"]
mod copies;
#[path = "crash/database.rs"]
mod database;
#[path = "crash/failover.rs"]
mod failover;
mod harness;
#[path = "crash/onboarding.rs"]
mod onboarding;
#[path = "crash/redis_faults.rs"]
mod redis_faults;
#[path = "crash/rows.rs"]
mod rows;
#[path = "crash/rules.rs"]
mod rules;
#[path = "crash/sql_faults.rs"]
mod sql_faults;
#[path = "crash/workers.rs"]
mod workers;
#[path = "crash/world.rs"]
mod world;
