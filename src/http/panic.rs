//! Panics of handlers: a bug, whose caller still gets an answer, and whose connection goes on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

/// Resolves to what the future resolves to; `None` when it panicked. Nothing of it is looked at after that.
pub(super) struct Caught<F>(pub(super) F);

impl<F: Future + Unpin> Future for Caught<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.0).poll(cx)));
        polled.map_or(Poll::Ready(None), |polled| polled.map(Some))
    }
}

#[cfg(test)]
mod tests {
    use super::Caught;

    #[tokio::test]
    async fn a_panic_is_told_from_an_answer() {
        assert_eq!(Caught(Box::pin(async { 7 })).await, Some(7));
        let broken = async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        };
        assert_eq!(Caught(Box::pin(broken)).await, None::<()>);
    }
}
