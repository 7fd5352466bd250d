//! The same question about many shards, a bounded number at a time.

use std::future::Future;

use tokio::task::JoinSet;

/// Answers in the order in which they came. At most `most` are asked at once.
pub(super) async fn map<T, F, Fut>(items: impl IntoIterator<Item = T>, most: usize, ask: F) -> Vec<Fut::Output>
where
    F: Fn(T) -> Fut,
    Fut: Future<Output: Send> + Send + 'static,
{
    let mut items = items.into_iter();
    let mut running = JoinSet::new();
    for item in items.by_ref().take(most) {
        running.spawn(ask(item));
    }
    let mut answers = Vec::new();
    while let Some(done) = running.join_next().await {
        match done {
            Ok(answer) => answers.push(answer),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // Only when the runtime ends.
            Err(_) => break,
        }
        if let Some(item) = items.next() {
            running.spawn(ask(item));
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn all_are_asked_and_never_more_than_the_bound_at_once() {
        let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = |item: usize| {
            let (now, peak) = (now.clone(), peak.clone());
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                item
            }
        };
        let mut answers = super::map(0..50, 4, ask).await;
        answers.sort_unstable();
        assert_eq!(answers, (0..50).collect::<Vec<_>>());
        assert!(peak.load(Ordering::SeqCst) <= 4);
    }
}
