//! Background tasks: each has a name, is told to stop, and is joined.

use std::{collections::HashMap, future::Future};

use tokio::{
    sync::watch,
    task::{Id, JoinSet},
    time::{Instant, timeout_at},
};

/// Told to a task that it should end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Resolves when the task should end; also when its owner is gone.
    pub(crate) async fn told(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// The bare signal, for rooms that take one.
    pub(crate) fn signal(&self) -> watch::Receiver<bool> {
        self.0.clone()
    }
}

/// Tasks that end together.
#[derive(Debug)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { set: JoinSet::new(), names: HashMap::new(), stop: watch::Sender::new(false) }
    }

    /// Starts a task. It ends when told, never by itself.
    pub(crate) fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(Stop) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = self.set.spawn(task(Stop(self.stop.subscribe())));
        self.names.insert(handle.id(), name);
    }

    /// Resolves when a task ended or panicked without being told to: a sentence.
    pub(crate) async fn one_ended(&mut self) -> String {
        match self.set.join_next_with_id().await {
            Some(Ok((id, ()))) => format!("the task `{}` ended by itself", self.name(id)),
            Some(Err(error)) => format!("the task `{}` failed: {error}", self.name(error.id())),
            None => std::future::pending().await,
        }
    }

    /// Tells all to stop and waits; at the deadline the rest is cut off. The names of those.
    pub(crate) async fn stop(mut self, deadline: Instant) -> Vec<&'static str> {
        self.stop.send_replace(true);
        while let Ok(Some(ended)) = timeout_at(deadline, self.set.join_next_with_id()).await {
            let id = match ended {
                Ok((id, ())) => id,
                Err(error) => {
                    tracing::error!(task = self.name(error.id()), %error, "a task failed while it stopped");
                    error.id()
                }
            };
            self.names.remove(&id);
        }
        if self.set.is_empty() {
            return Vec::new();
        }
        let mut late: Vec<&'static str> = self.names.into_values().collect();
        late.sort_unstable();
        late
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unknown")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn tasks_stop_when_told_and_late_ones_are_named() {
        let mut tasks = Tasks::new();
        tasks.spawn("obedient", |mut stop| async move { stop.told().await });
        tasks.spawn("deaf", |_| std::future::pending());
        assert_eq!(tasks.stop(Instant::now() + Duration::from_millis(100)).await, ["deaf"]);

        let mut tasks = Tasks::new();
        tasks.spawn("obedient", |mut stop| async move { stop.told().await });
        assert!(tasks.stop(Instant::now() + Duration::from_secs(30)).await.is_empty());
    }

    #[tokio::test]
    async fn a_task_that_ends_early_is_named() {
        let mut tasks = Tasks::new();
        tasks.spawn("steady", |mut stop| async move { stop.told().await });
        tasks.spawn("hasty", |_| async {});
        assert_eq!(tasks.one_ended().await, "the task `hasty` ended by itself");
        tasks.spawn("broken", |_| async { panic!("on purpose") });
        assert!(tasks.one_ended().await.starts_with("the task `broken` failed"));
    }
}
