//! `POST /v1/batch`: up to 256 independent operations. Those of one reservation run in their order,
//! others side by side; one that is refused, malformed even, is answered in its place.

use std::{
    borrow::Cow,
    collections::HashMap,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use smallvec::{SmallVec, smallvec};

use super::{charge, extend, refund, release, reserve, settle};
use crate::{
    http::{
        Service,
        answer::{Answer, Handled, Media},
        error::{Problem, Word},
        panic::Caught,
        wire::{
            gateway::{self, OP_TAG, Op},
            read::{self, Bad, Object},
        },
    },
    metrics,
    quota::verdict::Code,
};

/// Operations of one batch that run at once: enough to fill a pipeline, few enough that a batch
/// does not push single calls aside.
const AT_ONCE: usize = 64;

/// How long a batch goes on asking once an operation of it could not be decided.
const PATIENCE: Duration = Duration::from_secs(1);

/// All in one task: operations that begin at once go to Redis in one write, and their answers come back
/// in one read. A task for each would cost as much as the half of an operation.
pub(super) async fn answer(service: &Service, body: &[u8]) -> Handled {
    let ops = gateway::batch(read::text_of(body)?)?;
    let work = Work { service, begun: Instant::now(), undecided: AtomicBool::new(false) };
    let mut answers: Vec<Option<Answer>> = vec![None; ops.len()];
    let mut running = FuturesUnordered::new();
    let mut waiting = lanes(&ops).into_iter();
    loop {
        while running.len() < AT_ONCE
            && let Some(lane) = waiting.next()
        {
            // Told to the compiler, which cannot tell by itself that it may move to another thread.
            let run: Pin<Box<dyn Future<Output = Answers> + Send>> = Box::pin(work.run(lane));
            running.push(Caught(run));
        }
        let Some(done) = running.next().await else { break };
        for (place, answer) in done.unwrap_or_default() {
            answers[place] = Some(answer);
        }
    }
    Ok(Answer::new(hyper::StatusCode::OK, Media::Json, joined(answers), "ok"))
}

/// An operation, read as far as its verb.
struct Item<'t> {
    place: usize,
    op: Result<Op, Bad>,
    text: &'t str,
}

/// Operations that follow one another.
type Lane<'t> = SmallVec<[Item<'t>; 1]>;

/// One lane for each reservation id. An account may be named or meant by its key's secret, so lanes
/// do not look at it: ids that two accounts happen to share only wait for one another.
fn lanes<'t>(ops: &[&'t str]) -> Vec<Lane<'t>> {
    let mut lanes: Vec<Lane<'t>> = Vec::with_capacity(ops.len());
    let mut of_id: HashMap<Cow<'t, str>, usize> = HashMap::new();
    for (place, text) in ops.iter().enumerate() {
        let (op, id) = match gateway::op(text) {
            Ok((op, id)) => (Ok(op), id),
            Err(bad) => (Err(bad), None),
        };
        let item = Item { place, op, text };
        match id.map(|id| *of_id.entry(id).or_insert(lanes.len())) {
            Some(lane) if lane < lanes.len() => lanes[lane].push(item),
            Some(_) | None => lanes.push(smallvec![item]),
        }
    }
    lanes
}

/// Answers with the places of their operations.
type Answers = SmallVec<[(usize, Answer); 1]>;

struct Work<'s> {
    service: &'s Service,
    begun: Instant,
    /// An operation could not be decided.
    undecided: AtomicBool,
}

impl Work<'_> {
    async fn run(&self, lane: Lane<'_>) -> Answers {
        let mut answers = Answers::with_capacity(lane.len());
        for item in lane {
            let answer = match item.op {
                Ok(op) => self.one(op, item.text).await,
                Err(bad) => Problem::from(bad).answer(),
            };
            answers.push((item.place, answer));
        }
        answers
    }

    async fn one(&self, op: Op, text: &str) -> Answer {
        let answer = if self.is_hopeless() {
            Problem::unavailable("other operations of the batch could not be decided in time").answer()
        } else {
            Answer::from(dispatch(self.service, op, text).await)
        };
        if answer.code == Code::Unavailable.as_str() {
            self.undecided.store(true, Ordering::Relaxed);
        }
        metrics::answered(Op::WORDS[op as usize], answer.code);
        answer
    }

    /// Each operation has a time budget of its own; a batch does not wait for all of them in turn.
    fn is_hopeless(&self) -> bool {
        self.undecided.load(Ordering::Relaxed) && self.begun.elapsed() > PATIENCE
    }
}

async fn dispatch(service: &Service, op: Op, text: &str) -> Handled {
    let tag = Some(OP_TAG);
    match op {
        Op::Reserve => reserve::answer(service, Object::read(text, tag)?, None).await,
        Op::Settle => settle::answer(service, Object::read(text, tag)?, None).await,
        Op::Release => release::answer(service, Object::read(text, tag)?, None).await,
        Op::Extend => extend::answer(service, Object::read(text, tag)?, None).await,
        Op::Charge => charge::answer(service, Object::read(text, tag)?, None).await,
        Op::Refund => refund::answer(service, Object::read(text, tag)?, None).await,
    }
}

/// `{"ops":[{"status":200,"body":{…}},…]}`: the bodies are JSON already.
fn joined(answers: Vec<Option<Answer>>) -> Vec<u8> {
    let mut body = Vec::with_capacity(answers.len() * 256);
    body.extend_from_slice(b"{\"ops\":[");
    for (place, answer) in answers.into_iter().enumerate() {
        let answer = answer.unwrap_or_else(|| Problem::new(Word::Internal, "the operation was not answered").answer());
        let comma = if place == 0 { "" } else { "," };
        body.extend_from_slice(format!("{comma}{{\"status\":{},\"body\":", answer.status.as_u16()).as_bytes());
        body.extend_from_slice(&answer.body);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_of_one_reservation_share_a_lane() {
        let ops = [
            r#"{"op":"reserve","account":"a","id":"r"}"#,
            r#"{"op":"reserve","account":"a"}"#,
            r#"{"op":"settle","account":"a","id":"r"}"#,
            r#"{"op":"refund","account":"a","op_id":"f","of":"r"}"#,
            r#"{"op":"reserve","account":"a"}"#,
            r#"[]"#,
        ];
        let places: Vec<Vec<usize>> =
            lanes(&ops).iter().map(|lane| lane.iter().map(|item| item.place).collect()).collect();
        assert_eq!(places, [vec![0, 2, 3], vec![1], vec![4], vec![5]]);
    }

    #[test]
    fn answers_stand_in_their_places() {
        let problem = Problem::invalid("op", "x").answer();
        let mut created = Answer::ok(&serde_json::json!({"a": 1}));
        created.status = hyper::StatusCode::OK;
        let body: serde_json::Value =
            serde_json::from_slice(&joined(vec![Some(created), Some(problem), None])).unwrap();
        assert_eq!(body["ops"][0], serde_json::json!({"status": 200, "body": {"a": 1}}));
        assert_eq!((&body["ops"][1]["status"], &body["ops"][1]["body"]["field"]), (&400.into(), &"op".into()));
        assert_eq!(body["ops"][2]["status"], 500);
    }
}
