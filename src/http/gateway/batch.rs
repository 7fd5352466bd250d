//! `POST /v1/batch`: up to 256 independent operations. Those of one reservation run in their order,
//! others side by side; one that is refused, malformed even, is answered in its place.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{charge, extend, refund, release, reserve, settle};
use crate::{
    http::{
        Service,
        answer::{Answer, Handled, Media},
        error::{Problem, Word},
        wire::{
            gateway::{self, OP_TAG, Op},
            read::{self, Object},
        },
    },
    metrics,
    quota::verdict::Code,
};

/// Operations of one batch that run at once: enough to fill a pipeline, few enough that a batch
/// does not push single calls aside.
const AT_ONCE: usize = 16;

/// How long a batch goes on asking once an operation of it could not be decided.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn answer(service: &Arc<Service>, body: &[u8]) -> Handled {
    let ops = gateway::batch(read::text_of(body)?)?;
    let (next, undecided) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = Arc::new(Work { lanes: lanes(&ops), next, begun: Instant::now(), undecided });
    let mut workers = JoinSet::new();
    for _ in 0..work.lanes.len().min(AT_ONCE) {
        workers.spawn(work.clone().run(service.clone()));
    }
    let mut answers: Vec<Option<Answer>> = vec![None; ops.len()];
    while let Some(joined) = workers.join_next().await {
        for (place, answer) in joined.unwrap_or_default() {
            answers[place] = Some(answer);
        }
    }
    Ok(Answer::new(hyper::StatusCode::OK, Media::Json, joined(answers), "ok"))
}

/// Operations that follow one another: their places and texts.
type Lane = Vec<(usize, Box<str>)>;

struct Work {
    lanes: Vec<Lane>,
    next: AtomicUsize,
    begun: Instant,
    /// An operation could not be decided.
    undecided: AtomicBool,
}

/// One lane for each reservation id. An account may be named or meant by its key's secret, so lanes
/// do not look at it: ids that two accounts happen to share only wait for one another.
fn lanes(ops: &[&str]) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::with_capacity(ops.len());
    let mut of_id: HashMap<Cow<'_, str>, usize> = HashMap::new();
    for (place, text) in ops.iter().enumerate() {
        let id = gateway::op(text).ok().and_then(|(_, id)| id);
        let lane = id.map_or(lanes.len(), |id| *of_id.entry(id).or_insert(lanes.len()));
        if lane == lanes.len() {
            lanes.push(Lane::new());
        }
        lanes[lane].push((place, (*text).into()));
    }
    lanes
}

impl Work {
    async fn run(self: Arc<Self>, service: Arc<Service>) -> Vec<(usize, Answer)> {
        let mut answers = Vec::new();
        while let Some(lane) = self.lanes.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            for (place, text) in lane {
                answers.push((*place, self.one(&service, text).await));
            }
        }
        answers
    }
}

impl Work {
    async fn one(&self, service: &Service, text: &str) -> Answer {
        let (op, _) = match gateway::op(text) {
            Ok(op) => op,
            Err(bad) => return Problem::from(bad).answer(),
        };
        let answer = if self.is_hopeless() {
            Problem::unavailable("other operations of the batch could not be decided in time").answer()
        } else {
            Answer::from(dispatch(service, op, text).await)
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
            lanes(&ops).iter().map(|lane| lane.iter().map(|(place, _)| *place).collect()).collect();
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
