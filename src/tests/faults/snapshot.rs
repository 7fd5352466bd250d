//! What Redis and SQL hold, read past everything that quotad would say about it.

use std::collections::{BTreeMap, BTreeSet};

use quotad::quota::{
    counter::{Head, KeyCounter, WindowCounter, WindowCounters},
    packed::Unpacker,
    reservation::{Record, State},
};

use super::{sql::Connected, world::World};

/// A ledger row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Row {
    pub shard: i64,
    pub generation: i64,
    pub seq: i64,
    pub account: String,
    pub op_id: String,
    pub kind: String,
    pub status: String,
    pub at: i64,
    pub balance: i64,
    pub used: i64,
    pub requests: i64,
    pub digest: String,
    pub payload: Vec<u8>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Sum {
    pub account: String,
    pub balance: i64,
    pub used: i64,
    pub requests: i64,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Window {
    pub account: String,
    pub field: String,
    pub code: i64,
    pub start_s: i64,
    pub used: i64,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Mark {
    pub shard: i64,
    pub generation: i64,
    pub seq: i64,
    pub digest: String,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Generation {
    pub shard: i64,
    pub generation: i64,
    pub last_seq: i64,
    pub closed_at: Option<i64>,
}

/// SQL at one moment of rest.
#[derive(Clone, Debug, Default)]
pub struct SqlState {
    pub rows: Vec<Row>,
    pub accounts: Vec<Sum>,
    pub windows: Vec<Window>,
    pub marks: Vec<Mark>,
    pub generations: Vec<Generation>,
}

impl SqlState {
    pub fn read(world: &World) -> Result<Self, sqlx::Error> {
        world.runtime.block_on(async {
            let mut sql = Connected::open(&world.sql).await?;
            sql.stand_still().await?;
            Ok(Self {
                rows: sql
                    .all(
                        "SELECT shard, generation, seq, account, op_id, kind, status, at, balance, used, \
                         requests, digest, payload FROM ledger ORDER BY shard, generation, seq",
                    )
                    .await?,
                accounts: sql.all("SELECT account, balance, used, requests FROM accounts").await?,
                windows: sql.all("SELECT account, field, code, start_s, used FROM windows").await?,
                marks: sql.all("SELECT shard, generation, seq, digest FROM shards").await?,
                generations: sql.all("SELECT shard, generation, last_seq, closed_at FROM generations").await?,
            })
        })
    }

    /// Accounts whose sums are not those of their ledger, in one read: holds at any moment.
    pub fn wrong_sums(world: &World) -> Result<Vec<Sum>, sqlx::Error> {
        world.runtime.block_on(async {
            let mut sql = Connected::open(&world.sql).await?;
            sql.all(
                "SELECT a.account, CAST(a.balance - COALESCE(SUM(l.balance), 0) AS BIGINT) AS balance, \
                 CAST(a.used - COALESCE(SUM(l.used), 0) AS BIGINT) AS used, \
                 CAST(a.requests - COALESCE(SUM(l.requests), 0) AS BIGINT) AS requests \
                 FROM accounts a LEFT JOIN ledger l ON l.account = a.account \
                 GROUP BY a.account, a.balance, a.used, a.requests \
                 HAVING a.balance <> COALESCE(SUM(l.balance), 0) OR a.used <> COALESCE(SUM(l.used), 0) \
                 OR a.requests <> COALESCE(SUM(l.requests), 0)",
            )
            .await
        })
    }
}

/// A hold that lives.
#[derive(Clone, Debug)]
pub struct Hold {
    pub account: String,
    pub id: String,
    pub record: Record,
}

/// One shard in Redis, read in one step.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    pub shard: u16,
    pub open: bool,
    pub generation: i64,
    pub seq: i64,
    pub digest: String,
    pub heads: BTreeMap<String, Head>,
    /// Held by the keys of an account.
    pub keys: BTreeMap<(String, String), KeyCounter>,
    /// The counters of an account's group fields.
    pub windows: BTreeMap<(String, String), WindowCounters>,
    /// Names of what is remembered of reservations, `<account>/<id>`, and of operations,
    /// `<account>/<kind>/<id>`.
    pub known: BTreeSet<String>,
    pub holds: Vec<Hold>,
    /// Ids in the stream, oldest first.
    pub stream: Vec<String>,
}

const READ: &str = "
    local tag = 'q{' .. ARGV[1] .. '}'
    local accounts, known, holds, stream = {}, {}, {}, {}
    for _, kind in ipairs({'r/', 'o/'}) do
        for _, key in ipairs(redis.call('KEYS', tag .. kind .. '*')) do
            known[#known + 1] = string.sub(key, #tag + 3)
        end
    end
    for _, key in ipairs(redis.call('KEYS', tag .. 'a/*')) do
        accounts[#accounts + 1] = {key, redis.call('HGETALL', key)}
    end
    local listed = {}
    local function deadline(key, queue)
        local record = redis.call('GET', key) or ''
        local state, _, expires = struct.unpack('<c1I6I6', record ~= '' and record or string.rep('0', 13))
        -- In a queue, what has ended is of no account, and what has another deadline is elsewhere.
        if not listed[key] and (not queue or state == 'H' and expires - expires % 15000 == queue) then
            holds[#holds + 1], listed[key] = {key, record}, true
        end
    end
    for _, key in ipairs(redis.call('ZRANGE', tag .. 'x', 0, -1)) do
        deadline(key)
    end
    for _, queue in ipairs(redis.call('ZRANGE', tag .. 'x/', 0, -1)) do
        for _, key in ipairs(redis.call('LRANGE', queue, 0, -1)) do
            deadline(key, string.match(queue, '%d+$') * 15000)
        end
    end
    for _, entry in ipairs(redis.call('XRANGE', tag .. 'l', '-', '+')) do
        stream[#stream + 1] = entry[1]
    end
    return {redis.call('GET', tag .. 'm') or '', accounts, holds, stream, known}";

type Raw = (Vec<u8>, Vec<(String, Vec<Vec<u8>>)>, Vec<(String, Vec<u8>)>, Vec<String>, Vec<String>);

impl Shard {
    pub fn read(connection: &mut redis::Connection, shard: u16) -> redis::RedisResult<Self> {
        let mut read = redis::cmd("EVAL");
        let (meta, accounts, holds, stream, known): Raw = read.arg(READ).arg(0).arg(shard).query(connection)?;
        let mut state = Shard { shard, stream, known: known.into_iter().collect(), ..Shard::default() };
        let mut unpacker = Unpacker::new(&meta);
        if !meta.is_empty() {
            state.open = unpacker.uint::<1>().expect("meta") == u64::from(b'O');
            state.generation = unpacker.uint::<4>().expect("meta").cast_signed();
            let _now = unpacker.uint::<6>().expect("meta");
            state.seq = unpacker.uint::<7>().expect("meta").cast_signed();
            state.digest = String::from_utf8_lossy(unpacker.raw(40).expect("meta")).into_owned();
        }
        for (key, fields) in accounts {
            let account = key.split_once('/').map_or(key.as_str(), |(_, account)| account).to_owned();
            for pair in fields.chunks(2) {
                let name = String::from_utf8_lossy(&pair[0]).into_owned();
                if name == "h" {
                    state.heads.insert(account.clone(), Head::unpack(&pair[1]).expect("a head"));
                } else if let Some(key) = name.strip_prefix("k\u{1f}") {
                    let counter = KeyCounter::unpack(&pair[1]).expect("a key's counter");
                    state.keys.insert((account.clone(), key.to_owned()), counter);
                } else {
                    let counters = WindowCounter::unpack_all(&pair[1]).expect("a group's counters");
                    state.windows.insert((account.clone(), name), counters);
                }
            }
        }
        for (key, record) in holds {
            let mut parts = key.splitn(3, '/').skip(1);
            let (account, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let record = Record::unpack(&record).expect("a live hold's record");
            state.holds.push(Hold { account: account.to_owned(), id: id.to_owned(), record });
        }
        Ok(state)
    }

    /// What is wrong with what is held, at any moment: sentences.
    pub fn wrong_holds(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (account, head) in &self.heads {
            let live = self.holds.iter().filter(|hold| hold.account == *account && hold.record.state == State::Held);
            let held: i64 = live.map(|hold| hold.record.rest()).sum();
            if held != head.held {
                wrong.push(format!("I1: {account} holds {} and its live reservations {held}", head.held));
            }
            for number in [head.balance, head.held, head.used, head.requests] {
                if number.unsigned_abs() > 1 << 52 {
                    wrong.push(format!("I14: {account} has the number {number}"));
                }
            }
        }
        wrong
    }
}

/// All shards, in Redis.
pub fn shards(world: &World) -> redis::RedisResult<Vec<Shard>> {
    let mut connection = redis::Client::open(world.redis.url())?.get_connection()?;
    (0..world.plan.shards).map(|shard| Shard::read(&mut connection, shard)).collect()
}
