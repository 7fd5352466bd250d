//! News of settings and price lists: one channel that every sidecar listens to. A message says nothing but
//! "look"; losing one costs half a second, because everybody also looks by himself.

use std::{sync::Arc, time::Duration};

use ::redis::{Client, RedisError, aio::PubSub};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use tokio::time::{sleep, timeout};

use super::Redis;
use crate::engine::ports::{Listen, News};

const CHANNEL: &str = "q-settings";
const TELL_MAX: Duration = Duration::from_millis(250);
const SUBSCRIBE_MAX: Duration = Duration::from_secs(5);
/// Pause before a lost subscription is made again.
const AGAIN: Duration = Duration::from_millis(250);
/// A subscription is made anew after so long: a connection that died in silence brings no news for ever.
const RENEW_AFTER: Duration = Duration::from_secs(60);

#[async_trait]
impl News for Redis {
    async fn tell(&self) {
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(CHANNEL).arg("look");
        if let Err(fault) = self.caller.control.send::<i64>(TELL_MAX, &publish).await {
            tracing::debug!(?fault, "other sidecars could not be told of the change; they will see it by themselves");
        }
    }

    fn listen(&self) -> Box<dyn Listen> {
        Box::new(Listener { client: Arc::clone(&self.news), subscription: None })
    }
}

struct Listener {
    client: Arc<Client>,
    subscription: Option<PubSub>,
}

#[async_trait]
impl Listen for Listener {
    async fn heard(&mut self) {
        if let Some(subscription) = &mut self.subscription {
            if let Ok(Some(_)) = timeout(RENEW_AFTER, subscription.on_message().next()).await {
                return;
            }
            self.subscription = None;
        }
        // What was said in between was missed.
        self.subscription = Some(self.subscribed().await);
    }
}

impl Listener {
    /// A new subscription, whenever there is a server for it.
    async fn subscribed(&self) -> PubSub {
        loop {
            match timeout(SUBSCRIBE_MAX, subscribe(&self.client)).await {
                Ok(Ok(subscription)) => return subscription,
                Ok(Err(error)) => tracing::debug!(%error, "no news from Redis for now"),
                Err(_) => tracing::debug!("no news from Redis for now: it does not answer"),
            }
            sleep(AGAIN).await;
        }
    }
}

async fn subscribe(client: &Client) -> Result<PubSub, RedisError> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(CHANNEL).await?;
    Ok(subscription)
}
