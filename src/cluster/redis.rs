//! The link over Redis.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::link::{Address, Link, Receive};
use crate::broker::RedisBus;
use crate::maybe_ready::MaybeReady;

/// The nodes of a cluster, over Redis.
pub struct RedisLink {
    bus: Arc<RedisBus>,
}

impl RedisLink {
    /// The link over this bus.
    #[must_use]
    pub fn new(bus: Arc<RedisBus>) -> Self {
        RedisLink { bus }
    }
}

impl Link for RedisLink {
    fn listen(&self, process: u64, receive: Receive) -> MaybeReady<()> {
        let bus = Arc::clone(&self.bus);
        MaybeReady::later(async move {
            bus.listen(process, receive).await;
            Ok(())
        })
    }

    fn send(&self, to: Address, message: Bytes) -> MaybeReady<bool> {
        let bus = Arc::clone(&self.bus);
        let to = match to {
            Address::Process(process) => Some(process),
            Address::All => None,
        };
        MaybeReady::later(async move { bus.send(to, &message).await })
    }

    fn claim(&self, number: u16, lease: Duration) -> MaybeReady<bool> {
        let bus = Arc::clone(&self.bus);
        MaybeReady::later(async move { bus.claim(number, lease).await })
    }

    fn release(&self, number: u16) -> MaybeReady<()> {
        let bus = Arc::clone(&self.bus);
        MaybeReady::later(async move { bus.release(number).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::TestRedisServer;

    #[tokio::test]
    async fn messages_and_claims_pass_between_links() {
        let url = TestRedisServer::shared().url();
        let name = format!("l{:x}", fastrand::u64(..));
        let open = async || {
            let bus = RedisBus::open(&[&url], &name, 0).await.unwrap();
            RedisLink::new(bus)
        };
        let (a, b) = (open().await, open().await);
        let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
        let receive = move |message| sender.send(message).unwrap_or_default();
        b.listen(7, Box::new(receive)).await.unwrap();
        let hello = Bytes::from_static(b"hello");
        assert!(a.send(Address::Process(7), hello.clone()).await.unwrap());
        assert!(a.send(Address::All, hello.clone()).await.unwrap());
        assert!(!a.send(Address::Process(8), hello.clone()).await.unwrap());
        assert_eq!(received.recv().await, Some(hello.clone()));
        assert_eq!(received.recv().await, Some(hello));
        let lease = Duration::from_secs(10);
        assert!(a.claim(1, lease).await.unwrap());
        assert!(!b.claim(1, lease).await.unwrap());
        a.release(1).await.unwrap();
        assert!(b.claim(1, lease).await.unwrap());
    }
}
