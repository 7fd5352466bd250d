//! One command on its way: a permit, a lane, a time budget, and what each kind of failure sets off.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::{Cmd, FromRedisValue, Value};
use tokio::{sync::Semaphore, time::timeout};

use super::{
    fault::Fault,
    pool::{Borrowed, Lanes, run_id},
    reply::RawReply,
    script::Script,
    serving::Serving,
};
use crate::{
    engine::ports::{Status, Unavailable},
    metrics,
};

/// Sends commands. One per process, shared.
pub(crate) struct Caller {
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) serving: Arc<Serving>,
    pub(crate) in_flight: Semaphore,
    pub(crate) call_timeout: Duration,
}

impl Caller {
    /// Runs a script of the hot path on a shard, under the generation that is served.
    pub(crate) async fn run(
        &self,
        shard: u16,
        generation: u32,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<RawReply, Unavailable> {
        let answered = async {
            let _permit = self.in_flight.try_acquire().map_err(|_| Unavailable::Overloaded)?;
            let call = self.evalsha(self.lanes.of(shard)?, script, keys, args);
            RawReply::of(within(self.call_timeout, script.name, call).await?)
        };
        let reply = answered.await.inspect_err(failure)?;
        if reply.status == Status::Generation {
            failure(&Unavailable::Recovering);
            self.serving.outdated(shard, generation);
        }
        Ok(reply)
    }

    /// Runs a script of the stream side, within `budget`.
    pub(crate) async fn run_control(
        &self,
        budget: Duration,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, Unavailable> {
        let borrowed = self.lanes.control().inspect_err(failure)?;
        within(budget, script.name, self.evalsha(borrowed, script, keys, args)).await.inspect_err(failure)
    }

    async fn evalsha(
        &self,
        mut borrowed: Borrowed,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, Unavailable> {
        let command = eval("EVALSHA", &script.sha, keys, args);
        let fault = match command.query_async(&mut borrowed.connection).await {
            Ok(value) => return Ok(value),
            Err(error) => Fault::of(&error),
        };
        if fault != Fault::NoScript {
            return Err(self.failed(&borrowed, fault, script.name));
        }
        // Scripts get lost when someone flushes them, or when this is another server behind the same
        // address. Only the first may be answered by loading the script again.
        match run_id(&mut borrowed.connection).await {
            Ok(server) if self.serving.is_connected_to(&server) => self.serving.ask_for_attach(),
            Ok(server) => {
                self.serving.server_seen(&server);
                return Err(Unavailable::Recovering);
            }
            Err(text) => return Err(self.failed(&borrowed, Fault::Lost(text), script.name)),
        }
        let command = eval("EVAL", &script.text, keys, args);
        match command.query_async(&mut borrowed.connection).await {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(&borrowed, Fault::of(&error), script.name)),
        }
    }

    /// A plain command on a shard's lane.
    pub(crate) async fn plain<T: FromRedisValue>(&self, shard: u16, command: &Cmd) -> Result<T, Unavailable> {
        let answered = async {
            let _permit = self.in_flight.try_acquire().map_err(|_| Unavailable::Overloaded)?;
            within(self.call_timeout, "command", self.send(self.lanes.of(shard)?, command)).await
        };
        answered.await.inspect_err(failure)
    }

    /// A plain command of the stream side.
    pub(crate) async fn control<T: FromRedisValue>(&self, budget: Duration, command: &Cmd) -> Result<T, Unavailable> {
        let borrowed = self.lanes.control().inspect_err(failure)?;
        within(budget, "stream", self.send(borrowed, command)).await.inspect_err(failure)
    }

    async fn send<T: FromRedisValue>(&self, mut borrowed: Borrowed, command: &Cmd) -> Result<T, Unavailable> {
        let answered = command.query_async(&mut borrowed.connection).await;
        answered.map_err(|error| self.failed(&borrowed, Fault::of(&error), "command"))
    }

    fn failed(&self, borrowed: &Borrowed, fault: Fault, what: &str) -> Unavailable {
        match &fault {
            Fault::Lost(_) => {
                self.lanes.report(borrowed);
                self.serving.ask_for_attach();
            }
            Fault::NotServing(text) => {
                tracing::warn!(text, "Redis does not serve");
                self.serving.stop();
            }
            Fault::Corrupt(text) => tracing::error!(what, text, "a script failed"),
            Fault::NoScript | Fault::Refused(_) | Fault::Timeout => {}
        }
        fault.into_unavailable()
    }
}

/// Waits no longer than `budget` for a call, and notes how long it took.
async fn within<T>(
    budget: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, Unavailable> {
    let since = Instant::now();
    let answered = timeout(budget, call).await;
    metrics::redis_called(what, since);
    answered.map_err(|_| Unavailable::Timeout)?
}

/// Notes a call that Redis did not decide.
pub(super) fn failure(unavailable: &Unavailable) {
    metrics::redis_failed(match unavailable {
        Unavailable::Timeout => "timeout",
        Unavailable::Overloaded => "overloaded",
        Unavailable::Connection(_) => "connection",
        Unavailable::Recovering => "recovering",
        // No call to Redis fails for the store's sake; if it does, something is wrong.
        Unavailable::Store(_) | Unavailable::Behind | Unavailable::Corrupt(_) => "corrupt",
    });
}

fn eval(verb: &str, script: &str, keys: &[String], args: &[&[u8]]) -> Cmd {
    let mut command = ::redis::cmd(verb);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key.as_str());
    }
    for arg in args {
        command.arg(*arg);
    }
    command
}
