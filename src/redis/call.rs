//! One command on its way: a permit, a lane, a time budget, and what each kind of failure sets off.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::{Cmd, FromRedisValue, Pipeline, Value};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::{
    control::Control,
    fault::Fault,
    pool::{Lane, Lanes},
    reply::RawReply,
    resp,
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
    pub(crate) control: Control,
    pub(crate) serving: Arc<Serving>,
    pub(crate) in_flight: Semaphore,
    pub(crate) call_timeout: Duration,
}

impl Caller {
    /// Runs a call together with others of the same script, on a shard and under the generation that is served.
    pub(crate) async fn share(
        &self,
        shard: u16,
        generation: u32,
        script: &Script,
        keys: &[String],
        arg: &[u8],
    ) -> Result<RawReply, Unavailable> {
        let answered = async {
            let _permit = self.in_flight.try_acquire().map_err(|_| Unavailable::Overloaded)?;
            let lane = self.lanes.of(shard)?;
            let since = Instant::now();
            let until = since + self.call_timeout;
            let mut answer = lane.share(until, script, keys, arg).await;
            if let Err(Fault::NoScript) = answer {
                answer = self.eval(&lane, until, script, keys, &[arg]).await?.and_then(only);
            }
            metrics::redis_called(script.name, since);
            RawReply::of_string(answer.map_err(|fault| self.failed(Some(&lane), fault, script.name))?)
        };
        self.heard(shard, generation, answered.await)
    }

    /// Runs any other script of a shard, under the generation that is served.
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
            let lane = self.lanes.of(shard)?;
            RawReply::of(self.evalsha(&lane, script, keys, args).await?)
        };
        self.heard(shard, generation, answered.await)
    }

    fn heard(
        &self,
        shard: u16,
        generation: u32,
        answer: Result<RawReply, Unavailable>,
    ) -> Result<RawReply, Unavailable> {
        let reply = answer.inspect_err(failure)?;
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
        let since = Instant::now();
        let answer = self.control.run(budget, script, keys, args).await;
        metrics::redis_called(script.name, since);
        answer.map_err(|fault| self.failed(None, fault, script.name)).inspect_err(failure)
    }

    async fn evalsha(
        &self,
        lane: &Lane,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Value, Unavailable> {
        let since = Instant::now();
        let until = since + self.call_timeout;
        let mut answer = lane.call(until, |out| resp::eval(out, "EVALSHA", &script.sha, keys, args)).await;
        if let Err(Fault::NoScript) = answer {
            answer = self.eval(lane, until, script, keys, args).await?;
        }
        metrics::redis_called(script.name, since);
        answer.map_err(|fault| self.failed(Some(lane), fault, script.name))
    }

    /// Scripts get lost when someone flushes them, or when this is another server behind the same
    /// address. Only the first may be answered by loading the script again.
    async fn eval(
        &self,
        lane: &Lane,
        until: Instant,
        script: &Script,
        keys: &[String],
        args: &[&[u8]],
    ) -> Result<Result<Value, Fault>, Unavailable> {
        match lane.run_id(until).await {
            Ok(server) if self.serving.is_connected_to(&server) => self.serving.ask_for_attach(),
            Ok(server) => {
                self.serving.server_seen(&server);
                return Err(Unavailable::Recovering);
            }
            Err(fault) => return Err(self.failed(Some(lane), Fault::Lost(fault.to_string()), script.name)),
        }
        Ok(lane.call(until, |out| resp::eval(out, "EVAL", &script.text, keys, args)).await)
    }

    /// A plain command on a shard's lane.
    pub(crate) async fn plain<T: FromRedisValue>(&self, shard: u16, command: &Cmd) -> Result<T, Unavailable> {
        let answered = async {
            let _permit = self.in_flight.try_acquire().map_err(|_| Unavailable::Overloaded)?;
            let lane = self.lanes.of(shard)?;
            let since = Instant::now();
            let answer = lane.send(since + self.call_timeout, command).await;
            metrics::redis_called("command", since);
            answer.map_err(|fault| self.failed(Some(&lane), fault, "command"))
        };
        answered.await.inspect_err(failure)
    }

    /// A plain command of the stream side.
    pub(crate) async fn control<T: FromRedisValue>(&self, budget: Duration, command: &Cmd) -> Result<T, Unavailable> {
        let since = Instant::now();
        let answer = self.control.send(budget, command).await;
        metrics::redis_called("stream", since);
        answer.map_err(|fault| self.failed(None, fault, "command")).inspect_err(failure)
    }

    /// Plain commands of the stream side, in one exchange. One that the server refuses fails alone.
    pub(crate) async fn control_all<T: FromRedisValue>(
        &self,
        budget: Duration,
        commands: &mut Pipeline,
    ) -> Result<Vec<Result<T, Unavailable>>, Unavailable> {
        let since = Instant::now();
        let answers = self.control.send_all(budget, commands).await;
        metrics::redis_called("stream", since);
        let failed = |fault| self.failed(None, fault, "command");
        let answers = answers.map_err(failed).inspect_err(failure)?;
        Ok(answers.into_iter().map(|answer| answer.map_err(failed).inspect_err(failure)).collect())
    }

    /// What a fault sets off. `lane`: where it was seen, if not on the stream side.
    fn failed(&self, lane: Option<&Lane>, fault: Fault, what: &str) -> Unavailable {
        match &fault {
            Fault::Lost(_) => {
                self.lanes.report(lane);
                self.serving.ask_for_attach();
            }
            Fault::NotServing(text) => {
                tracing::warn!(text, "Redis does not serve");
                self.serving.stop();
            }
            Fault::Corrupt(text) => tracing::error!(what, text, "a script failed"),
            Fault::NoScript | Fault::Refused(_) | Fault::Timeout | Fault::Overloaded => {}
        }
        fault.into_unavailable()
    }
}

/// The one answer of a script that was sent with one call.
fn only(answers: Value) -> Result<Bytes, Fault> {
    let Value::Array(mut answers) = answers else { return Err(Fault::Corrupt("a script without answers".to_owned())) };
    match (answers.pop(), answers.is_empty()) {
        (Some(Value::BulkString(answer)), true) => Ok(answer.into()),
        (Some(Value::ServerError(error)), true) => Err(Fault::of(&error.into())),
        _ => Err(Fault::Corrupt("a script with other answers than one".to_owned())),
    }
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
