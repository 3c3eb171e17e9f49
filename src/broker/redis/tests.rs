//! The broker with a real server of its own.

mod bus;
mod faults;
mod server;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::*;
use crate::broker::contract::{Recorder, namespaces};
use crate::event::Namespaces;
pub(crate) use server::TestServer;

/// A broker, and what it delivers to.
pub(in crate::broker) struct TestRedis {
    broker: Arc<Redis>,
    pub(in crate::broker) sink: Arc<Recorder>,
    pub(in crate::broker) namespaces: Arc<ArcSwap<Namespaces>>,
}

/// Settings for a broker of one test.
fn settings(url: &str, bounds: Bounds) -> RedisSettings {
    RedisSettings {
        urls: vec![url.to_owned()],
        name: format!("t{:x}", fastrand::u64(..)),
        wait_replicas: 0,
        publish_timeout: Duration::from_secs(5),
        sweep: Duration::from_secs(15),
        bounds,
    }
}

impl TestRedis {
    /// A broker that follows everything, on the server of this test process.
    pub(in crate::broker) async fn shared(bounds: Bounds) -> Self {
        let test = Self::open(settings(&TestServer::shared().url(), bounds)).await;
        test.follow(&ChannelPattern::All).await;
        test
    }

    async fn open(settings: RedisSettings) -> Self {
        let sink = Arc::new(Recorder::default());
        let shared: Arc<dyn Sink> = Arc::<Recorder>::clone(&sink);
        let weak: Weak<dyn Sink> = Arc::downgrade(&shared);
        let namespaces = namespaces();
        let metrics = Metrics::new("test");
        let broker = Redis::open(Arc::clone(&namespaces), weak, metrics, settings);
        TestRedis {
            broker: Arc::new(broker.await.unwrap()),
            sink,
            namespaces,
        }
    }

    pub(in crate::broker) fn broker(&self) -> Arc<dyn Broker> {
        Arc::<Redis>::clone(&self.broker)
    }

    async fn follow(&self, pattern: &ChannelPattern) {
        let shared = &self.broker.shared;
        let followed = Followed::from(pattern);
        shared.interest.set(followed.clone(), true);
        let subscribed = shared.interest.is_subscribed(&followed, shared);
        subscribed.await.unwrap();
    }

    /// Waits until everything that was published has been delivered.
    pub(in crate::broker) async fn settle(&self) {
        let shared = &self.broker.shared;
        // The answer comes over the connection of the messages, after them.
        for server in &shared.servers.map().unwrap().servers {
            server.probe().await;
        }
        let received = shared.inbox.received();
        while shared.receiver.handled.load(Ordering::Acquire) < received {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Lets time pass, in steps after which the sweep looks.
    pub(in crate::broker) async fn advance(&self, by: Duration) {
        const STEP: Duration = Duration::from_mins(4);
        const SHIFT: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do \
             local left = redis.call('PTTL', key) \
             if left >= 0 and left <= tonumber(ARGV[2]) then redis.call('DEL', key) \
             elseif left >= 0 then redis.call('PEXPIRE', key, left - ARGV[2]) end end";
        let shared = &self.broker.shared;
        let name = shared.keys.index(0);
        let name = name.split(':').next().unwrap().to_owned();
        let mut left = by;
        while !left.is_zero() {
            let step = left.min(STEP);
            left -= step;
            for server in &shared.servers.map().unwrap().servers {
                let mut command = redis::cmd("EVAL");
                command.arg(SHIFT).arg(0).arg(&name).arg(millis(step));
                server.command(&command).await.unwrap();
            }
            shared.clock.skew.fetch_add(millis(step), Ordering::Relaxed);
            verify::positions(shared).await.unwrap();
        }
    }
}
