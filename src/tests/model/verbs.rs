//! One random call of each verb.

use quotad::{
    engine::ports::{
        AdjustCall, ChargeCall, Cost, ExtendCall, RefundCall, Reprice, ReserveCall, ResetCall, SettleCall, Status,
        UndoCall,
    },
    quota::{
        clock::Millis,
        entry::Kind,
        id::{AccountId, OpId, ReservationId},
        limit::{CounterCode, GroupField},
        reservation::{Record, State},
    },
};
use rand::RngExt;

use super::{
    draw::{COUNTED, TAGS},
    driver::{Driver, OPENING},
    server::GENERATION,
};

impl Driver {
    pub(super) async fn reserve(&mut self) {
        let (account, id, key) = (self.account(), self.id(), self.key());
        let admission = self.admission(key.as_ref());
        let (amount, least) = (self.amount(&account), self.amount(&account));
        let call = ReserveCall {
            account: &account,
            id: &id,
            version: self.version(&account),
            admission: &admission,
            key: key.as_ref(),
            amount,
            min_amount: if self.chance(20) { least.min(amount) } else { amount },
            tokens: self.random.random_range(0..800),
            prompt_cost: self.random.random_range(0..200),
            ttl_ms: self.ttl_ms(),
            check_only: false,
            charge_on_expiry: self.chance(25),
            fingerprint: self.fingerprint("reserve"),
            price_tag: TAGS[self.random.random_range(0..2)],
        };
        let check_only = self.chance(5);
        let min_amount = if check_only { amount } else { call.min_amount };
        let call = ReserveCall { check_only, min_amount, ..call };
        let reply = self.real.counters.reserve(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &call.admission.groups, |model, now| {
            model.reserve(&call, now)
        });
    }

    pub(super) async fn settle(&mut self) {
        let account = self.account();
        let id = self.target(&account, &[State::Held, State::Held, State::Expired]);
        let units = self.amount(&account);
        let tag = TAGS[self.random.random_range(0..2)];
        let call = SettleCall {
            account: &account,
            id: &id,
            cost: self.pick(&[
                Cost::Units(units),
                Cost::Units(units),
                Cost::Units(units),
                Cost::Prompt,
                Cost::Held,
                Cost::Nothing,
            ]),
            tokens: self.chance(60).then(|| self.random.random_range(0..900)),
            last: self.chance(75),
            clamped: self.chance(3),
            fingerprint: self.fingerprint("settle"),
            price_tag: self.chance(20).then_some(tag),
            log: self.log(),
        };
        let reply = self.real.counters.settle(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &[], |model, now| model.settle(&call, now));
    }

    pub(super) async fn release(&mut self) {
        let account = self.account();
        let id = self.target(&account, &[State::Held]);
        self.release_one(&account, &id).await;
    }

    pub(super) async fn release_one(&mut self, account: &AccountId, id: &ReservationId) {
        let reply = self.real.counters.release(account, id).await;
        self.compare(format!("release {account} {id}"), account, reply, &[], |model, now| {
            model.release(account, id, now)
        });
    }

    pub(super) async fn expire(&mut self) {
        let account = self.account();
        let id = self.target(&account, &[State::Held]);
        let reply = self.real.counters.expire(&account, &id).await;
        self.compare(format!("expire {account} {id}"), &account, reply, &[], |model, now| {
            model.expire(&account, &id, now)
        });
    }

    pub(super) async fn extend(&mut self) {
        let account = self.account();
        let id = self.target(&account, &[State::Held]);
        let key = self.model.record(&account, &id).and_then(|record| record.key.clone());
        let groups = self.groups(key.as_ref(), true);
        let held = self.model.record(&account, &id).map_or(100, |record| record.held);
        let amount = match self.random.random_range(0..10) {
            0..2 => None,
            2 => Some(self.amount(&account)),
            _ => Some(held + self.random.random_range(0..400)),
        };
        let allowance = self.pick(&[None, Some(2_000), Some(1 << 40)]);
        let from = self.model.record(&account, &id).map(|record| record.price_tag.clone()).unwrap_or_default();
        let from = if self.chance(80) { from } else { b"\x09\0\0\0none".to_vec() };
        let to = self.pick(&[&b"\x07\0\0\0vip"[..], b"\x07\0\0\0gold\0vip", b""]);
        let reprice = self.chance(30).then(|| (self.random.random_range(0..90), self.random.random_range(-400..1_600)));
        let reprice = reprice.map(|(prompt_cost, tokens)| Reprice {
            from: &from,
            to,
            prompt_cost,
            tokens: Some(tokens).filter(|tokens| *tokens >= 0),
        });
        let call = ExtendCall {
            account: &account,
            id: &id,
            version: self.version(&account),
            credit_limit: self.pick(&[0, 0, 500]),
            allowance: key.and(allowance),
            denied: self.chance(3),
            groups: &groups,
            amount,
            ttl_ms: self.chance(60).then(|| self.ttl_ms()),
            reprice,
        };
        let reply = self.real.counters.extend(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &[], |model, now| model.extend(&call, now));
    }

    pub(super) async fn charge(&mut self) {
        let (account, id, key) = (self.account(), self.id(), self.key());
        let admission = self.admission(key.as_ref());
        let unreserved = self.chance(30);
        let call = ChargeCall {
            account: &account,
            id: &id,
            version: self.version(&account),
            admission: &admission,
            key: key.as_ref(),
            amount: self.amount(&account),
            tokens: self.random.random_range(0..800),
            force: self.chance(20),
            unreserved,
            clamped: self.chance(3),
            fingerprint: self.fingerprint(if unreserved { "settle" } else { "charge" }),
            price_tag: TAGS[self.random.random_range(0..2)],
            log: self.log(),
        };
        let reply = self.real.counters.charge(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &call.admission.groups, |model, now| {
            model.charge(&call, now)
        });
    }

    pub(super) async fn refund(&mut self) {
        let (account, op_id) = (self.account(), self.op_id());
        let of = self.target(&account, &[State::Settled, State::Settled, State::Expired]);
        let charged = self.model.record(&account, &of).map_or(0, |record| record.charged);
        let amount = if self.chance(70) { charged / self.random.random_range(1..4) } else { self.amount(&account) };
        // As the engine's: the ledger finds the reservation by it.
        let log = format!(r#"{{"of":"{of}"}}"#);
        let call = RefundCall {
            account: &account,
            op_id: &op_id,
            of: &of,
            amount,
            fingerprint: self.fingerprint("refund"),
            log: log.as_bytes(),
        };
        let reply = self.real.counters.refund(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &[], |model, now| model.refund(&call, now));
    }

    pub(super) async fn adjust(&mut self) {
        let (account, op_id) = (self.account(), self.op_id());
        // Below the opening balance mostly credits, above it mostly debits: money stays scarce.
        let balance = self.model.accounts.get(&account).map_or(0, |account| account.head.balance);
        let poor = balance < OPENING;
        let kind = match self.random.random_range(0..20) {
            0 => Kind::Close,
            1 => Kind::Initial,
            2..6 => Kind::Debit,
            _ if poor => Kind::Credit,
            _ => Kind::Debit,
        };
        let need = (OPENING - balance).abs().min(1 << 52);
        let amount = if self.chance(50) { need } else { self.amount(&account) };
        let call = AdjustCall {
            account: &account,
            kind,
            op_id: &op_id,
            amount,
            force: self.chance(20),
            fingerprint: self.fingerprint(kind.as_str()),
            log: self.log(),
        };
        let reply = self.real.counters.adjust(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &[], |model, now| model.adjust(&call, now));
    }

    /// Takes an entry of the ledger back as if it had been done twice, mostly a late one.
    pub(super) async fn undo(&mut self) {
        let account = self.account();
        let Some(ledger) = self.model.ledger.get(&account) else { return };
        let back = self.random.random_range(0..20.min(ledger.len()));
        let place = ledger.len() - 1 - back;
        let entry = ledger[place].clone();
        let op_id = OpId::new(format!("dup:{GENERATION}-0-{place}")).unwrap();
        let fingerprint = self.fingerprint("undo");
        let call = UndoCall { op_id: &op_id, entry: &entry, fingerprint, log: self.log() };
        // The same place twice by chance is too rare to be relied on.
        for _ in 0..1 + u8::from(self.chance(20)) {
            let reply = self.real.counters.undo(&call).await;
            self.compare(format!("{call:?}"), &account, reply, &[], |model, now| model.undo(&call, now));
        }
    }

    /// Forgets an account that holds nothing and loads it again from the sums of its ledger.
    pub(super) async fn unload(&mut self) {
        let account = self.pick(&self.accounts.clone());
        // With a few holds less, so that there is something to unload.
        let live =
            self.model.records.iter().filter(|((owner, _), record)| *owner == account && record.state == State::Held);
        let live: Vec<ReservationId> = live.map(|((_, id), _)| id.clone()).collect();
        if self.chance(70) {
            for id in live {
                self.release_one(&account, &id).await;
            }
        }
        let (counters, stream) = (self.real.counters.clone(), self.real.stream.clone());
        let top = stream.meta(counters.shard_of(&account)).await.expect("a meta").expect("a meta").top;
        let reply = counters.unload(&account, top, Millis(0)).await.expect("an answer");
        let free = self.model.accounts[&account].is_free();
        // Other accounts of the shard may have gone on since its top was read.
        assert!(free || reply.status == Status::Idle, "{account} was unloaded and holds something");
        *self.seen.entry(("unload".into(), format!("{:?}", reply.status))).or_default() += 1;
        if reply.status != Status::Done {
            return;
        }
        let posted = self.model.posted(&account, OPENING);
        let nonce = counters.begin_load(&account).await.expect("a nonce");
        let loaded = counters.hydrate(&account, nonce, &posted).await.expect("an answer");
        assert_eq!(loaded.status, Status::Done);
        self.model.hydrate(&account, &posted);
    }

    pub(super) async fn reset(&mut self) {
        let account = self.account();
        let field = GroupField::new("openai", "*", None);
        let mut codes: Vec<CounterCode> = Vec::new();
        for (metric, period) in COUNTED {
            if self.chance(30) {
                codes.push(CounterCode::new(metric, period));
            }
        }
        let op_id = self.op_id();
        let call = ResetCall { account: &account, op_id: &op_id, field: &field, codes: &codes, log: self.log() };
        let reply = self.real.counters.reset(&call).await;
        self.compare(format!("{call:?}"), &account, reply, &[], |model, now| model.reset(&call, now));
    }

    pub(super) async fn raise_version(&mut self) {
        let account = self.account();
        self.version += 1;
        let version = self.version(&account) + self.random.random_range(0..2);
        let reply = self.real.counters.raise_version(&account, version).await;
        self.compare(format!("raise_version {account} {version}"), &account, reply, &[], |model, now| {
            model.raise_version(&account, version, now)
        });
    }

    /// A tombstone that is still there is not overwritten by an older one from the ledger.
    pub(super) async fn restore(&mut self) {
        let (account, id) = (self.account(), self.id());
        let Some(record) = self.model.record(&account, &id).cloned() else { return };
        let older = Record { state: State::Settled, charged: record.charged + 7, ..record.clone() };
        self.real.counters.restore_record(&account, &id, &older).await.expect("an answer");
        self.compare_record(&account, &id, &record).await;
    }

    /// The due list holds every hold past its deadline, oldest first, and no other.
    pub(super) async fn due(&mut self) {
        let account = self.pick(&self.accounts.clone());
        let live: Vec<(Millis, ReservationId)> = self
            .model
            .records
            .iter()
            .filter(|((owner, _), record)| *owner == account && record.state == State::Held)
            .map(|((_, id), record)| (record.expires, id.clone()))
            .collect();
        let counters = &self.real.counters;
        let (before, _) = counters.read_account(&account).await.expect("an answer").expect("loaded");
        let shard = counters.shard_of(&account);
        for queue in counters.queues(shard).await.expect("an answer") {
            while counters.cascade(shard, &queue).await.expect("an answer") {}
        }
        let due = counters.due(shard, 10_000).await.expect("an answer");
        let (after, _) = counters.read_account(&account).await.expect("an answer").expect("loaded");
        let mine: Vec<&ReservationId> = due.iter().filter(|(owner, _)| *owner == account).map(|(_, id)| id).collect();
        for (expires, id) in &live {
            let listed = mine.contains(&id);
            assert!(listed || *expires > before, "{account} {id} is due since {expires} and not listed at {before}");
            assert!(!listed || *expires <= after, "{account} {id} is listed at {after} and due at {expires}");
        }
        let is_live = |id: &&ReservationId| live.iter().any(|(_, live)| live == *id);
        assert!(mine.iter().all(is_live), "{account}: the due list names a hold that is over: {mine:?}");
    }
}
