//! What holds when servers and connections fail.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::broker::contract::draft;
use crate::error::Code;
use crate::event::{Event, Position};

/// How long a condition may take to hold.
const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

/// A node of the cluster `name` on this server.
async fn node(server: &TestServer, name: &str) -> TestRedis {
    node_at(&[server.url()], name, 0).await
}

async fn node_at(urls: &[String], name: &str, wait_replicas: usize) -> TestRedis {
    let settings = RedisSettings {
        urls: urls.to_vec(),
        name: name.to_owned(),
        wait_replicas,
        sweep: Duration::from_secs(1),
        ..settings("", Bounds::default())
    };
    TestRedis::open(settings).await
}

impl TestRedis {
    async fn publish(&self, name: &str, n: usize) -> Result<Receipt, Error> {
        self.broker.publish(draft(name, n, None)).await
    }

    /// Publishes until it is acknowledged. Returns the position.
    async fn insist(&self, name: &str, n: usize) -> Position {
        let began = Instant::now();
        loop {
            match self.publish(name, n).await {
                Ok(receipt) => return receipt.position.unwrap(),
                Err(error) => {
                    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
                    assert!(began.elapsed() < PATIENCE, "{error:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    async fn page(&self, name: &str) -> Page {
        let range = Range::all(1000);
        let page = self.broker.read(&channel(name), range).await;
        page.unwrap().unwrap()
    }

    fn events(&self) -> Vec<Arc<Event>> {
        self.sink.events.lock().unwrap().clone()
    }

    fn numbers(&self) -> Vec<usize> {
        let number = |event: &Arc<Event>| {
            let text = std::str::from_utf8(event.payload.data()).unwrap();
            text.parse().unwrap()
        };
        self.events().iter().map(number).collect()
    }

    /// Waits until exactly these have been delivered, in this order.
    async fn delivers(&self, expected: impl Iterator<Item = usize>) {
        let expected: Vec<usize> = expected.collect();
        until("all are delivered", async || {
            self.numbers().len() >= expected.len()
        })
        .await;
        self.settle().await;
        assert_eq!(self.numbers(), expected);
    }

    async fn is_up(&self) {
        until("Redis is back", async || self.broker.is_available()).await;
    }
}

#[tokio::test]
async fn nodes_share_channels_and_idempotency_keys() {
    let server = TestServer::shared();
    let name = settings("", Bounds::default()).name;
    let (a, b) = (node(server, &name).await, node(server, &name).await);
    b.follow(&ChannelPattern::Exact(channel("kept:a"))).await;
    for n in 0..5 {
        a.publish("kept:a", n).await.unwrap();
    }
    b.delivers(0..5).await;
    assert!(a.events().is_empty(), "nobody follows it there");
    let (on_a, on_b) = (a.page("kept:a").await, b.page("kept:a").await);
    assert_eq!((on_a.top, on_a.events.len()), (on_b.top, 5));
    let keyed = || draft("kept:a", 9, Some("k"));
    let first = a.broker.publish(keyed()).await.unwrap();
    let again = b.broker.publish(keyed()).await.unwrap();
    assert_eq!((again.id, again.position), (first.id, first.position));
    assert!(again.duplicate);
}

#[tokio::test]
async fn patterns_and_exact_names_receive_each_event_once() {
    let server = TestServer::shared();
    let name = settings("", Bounds::default()).name;
    let (a, b) = (node(server, &name).await, node(server, &name).await);
    for pattern in ["kept:*", "kept:a", "plain:a", "*"] {
        b.follow(&ChannelPattern::parse(pattern).unwrap()).await;
    }
    for n in 0..10 {
        let name = ["kept:a", "plain:a"][n % 2];
        a.publish(name, n).await.unwrap();
    }
    until("all are delivered", async || b.numbers().len() >= 10).await;
    b.settle().await;
    let mut numbers = b.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_for_an_audience_reach_every_node() {
    let server = TestServer::shared();
    let name = settings("", Bounds::default()).name;
    let (a, b) = (node(server, &name).await, node(server, &name).await);
    let event = Draft {
        channel: None,
        ..draft("kept:a", 7, None)
    };
    a.broker.publish(event.clone()).await.unwrap();
    a.delivers(7..8).await;
    b.delivers(7..8).await;
    assert_eq!(b.events()[0].id, event.id);
    assert_eq!(
        (&b.events()[0].channel, b.events()[0].position),
        (&None, None)
    );
}

#[tokio::test]
async fn lost_connections_lose_and_repeat_nothing() {
    let server = TestServer::start(&[]);
    let (a, b) = (node(&server, "t").await, node(&server, "t").await);
    for pattern in ["brief:a", "kept:*"] {
        b.follow(&ChannelPattern::parse(pattern).unwrap()).await;
    }
    b.page("brief:a").await;
    for n in 0..200 {
        if n % 50 == 25 {
            server.asks("CLIENT KILL TYPE pubsub");
        }
        a.insist("brief:a", n).await;
        if n % 60 == 30 {
            // Only the pattern follows it, and it was never seen there.
            a.insist(&format!("kept:{n}"), 1000 + n).await;
        }
    }
    until("all are delivered", async || b.numbers().len() >= 203).await;
    b.settle().await;
    let (unseen, seen): (Vec<usize>, Vec<usize>) = b.numbers().iter().partition(|n| **n >= 1000);
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    assert_eq!(unseen, [1030, 1090, 1150]);
}

#[tokio::test]
async fn the_loss_of_a_last_event_is_noticed() {
    let server = TestServer::start(&[]);
    let (a, b) = (node(&server, "t").await, node(&server, "t").await);
    b.follow(&ChannelPattern::parse("brief:a").unwrap()).await;
    b.page("brief:a").await;
    a.publish("brief:a", 0).await.unwrap();
    b.delivers(0..1).await;
    // As a message that got lost: the channel has an event more, and nobody was told.
    let topic = b.broker.shared.keys.topic(&channel("brief:a"));
    let map = b.broker.shared.servers.map().unwrap();
    map.servers[0].unsubscribe(&[topic]).await.unwrap();
    a.publish("brief:a", 1).await.unwrap();
    b.delivers(0..2).await;
}

#[tokio::test]
async fn a_killed_server_loses_nothing_and_ends_its_epochs() {
    let mut server = TestServer::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (a, b) = (node(&server, "t").await, node(&server, "t").await);
    b.follow(&ChannelPattern::parse("brief:a").unwrap()).await;
    let mut last = a.insist("brief:a", 0).await;
    for n in 1..20 {
        last = a.insist("brief:a", n).await;
    }
    b.delivers(0..20).await;
    server.kill();
    until("the loss is noticed", async || !a.broker.is_available()).await;
    let refused = a.publish("brief:a", 99).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.retry_delay().is_some());
    let read = b.broker.read(&channel("brief:a"), Range::all(1)).await;
    assert_eq!(read.unwrap_err().code(), Code::Unavailable);
    server.run();
    b.is_up().await;
    let page = b.page("brief:a").await;
    assert_eq!(page.events.len(), 20, "each acknowledged event is there");
    assert!(!page.covers(last), "an old position is not answered");
    for n in 20..40 {
        a.insist("brief:a", n).await;
    }
    b.delivers(0..40).await;
}

#[tokio::test]
async fn erased_data_begins_new_epochs() {
    let server = TestServer::start(&[]);
    let (a, b) = (node(&server, "t").await, node(&server, "t").await);
    b.follow(&ChannelPattern::parse("kept:a").unwrap()).await;
    let mut last = a.insist("kept:a", 0).await;
    for n in 1..5 {
        last = a.insist("kept:a", n).await;
    }
    b.delivers(0..5).await;
    server.asks("FLUSHALL");
    assert!(!b.page("kept:a").await.covers(last));
    let first = a.insist("kept:a", 5).await;
    assert_eq!(first.offset, 1);
    assert_ne!(first.epoch, last.epoch);
    b.delivers(0..6).await;
    server.asks("SCRIPT FLUSH");
    a.insist("kept:a", 6).await;
    assert_eq!(a.page("kept:a").await.events.len(), 2);
    b.delivers(0..7).await;
}

#[tokio::test]
async fn offsets_given_twice_have_other_epochs() {
    let master = TestServer::start(&[]);
    let replica = TestServer::start(&[]);
    let port = tcp_port(&master);
    replica.asks(&format!("REPLICAOF 127.0.0.1 {port}"));
    let before = node(&master, "t").await;
    let shared = before.insist("kept:a", 0).await;
    until("it is replicated", async || {
        replica.asks("DBSIZE").trim() != "0"
    })
    .await;
    let refused = Redis::open(
        namespaces(),
        Weak::<Recorder>::new(),
        Metrics::new("test"),
        settings(&replica.url(), Bounds::default()),
    );
    let refused = tokio::time::timeout(Duration::from_secs(15), refused).await;
    assert!(matches!(refused, Ok(Err(Trouble::Replica { .. }))));
    replica.asks("REPLICAOF NO ONE");
    let lost = before.insist("kept:a", 1).await;
    let after = node(&replica, "t").await;
    let given = after.insist("kept:a", 2).await;
    assert_eq!((given.offset, lost.offset), (2, 2), "given twice");
    let page = after.page("kept:a").await;
    assert_eq!(page.events.len(), 2);
    assert!(!page.covers(lost) && !page.covers(shared));
    assert!(page.covers(given));
    // The old master comes back as a replica, and is promoted again.
    let port = tcp_port(&replica);
    master.asks(&format!("REPLICAOF 127.0.0.1 {port}"));
    until("it is replicated", async || {
        master
            .asks("INFO replication")
            .contains("master_link_status:up")
    })
    .await;
    master.asks("REPLICAOF NO ONE");
    before.is_up().await;
    until("the old position is refused", async || {
        let page = before.broker.read(&channel("kept:a"), Range::all(9)).await;
        page.is_ok_and(|page| page.is_some_and(|page| !page.covers(lost) && page.events.len() == 2))
    })
    .await;
}

/// Lets a server listen on a TCP port.
fn tcp_port(server: &TestServer) -> u16 {
    let port = free_port();
    assert_eq!(server.asks(&format!("CONFIG SET port {port}")).trim(), "OK");
    port
}

/// A port that is free, with the one of the cluster bus.
fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..40_000);
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

#[tokio::test]
async fn sentinels_promote_a_replica_and_epochs_end() {
    let ports = [free_port(), free_port(), free_port()];
    let mut master = TestServer::start(&["--port", &ports[0].to_string()]);
    let replica = TestServer::start(&["--port", &ports[1].to_string()]);
    replica.asks(&format!("REPLICAOF 127.0.0.1 {}", ports[0]));
    until("it is replicated", async || {
        replica
            .asks("INFO replication")
            .contains("master_link_status:up")
    })
    .await;
    let sentinel = TestServer::sentinel(ports[2], ports[0]);
    let url = format!("redis+sentinel://127.0.0.1:{}/main", ports[2]);
    let a = node_at(&[url], "t", 0).await;
    a.follow(&ChannelPattern::parse("brief:a").unwrap()).await;
    let mut last = a.insist("brief:a", 0).await;
    for n in 1..10 {
        last = a.insist("brief:a", n).await;
    }
    a.delivers(0..10).await;
    until("the Sentinel knows the replica", async || {
        sentinel
            .asks("SENTINEL REPLICAS main")
            .contains(&ports[1].to_string())
    })
    .await;
    master.kill();
    let next = a.insist("brief:a", 10).await;
    assert_ne!(next.epoch, last.epoch);
    assert!(!a.page("brief:a").await.covers(last));
    for n in 11..20 {
        a.insist("brief:a", n).await;
    }
    a.delivers(0..20).await;
}

#[tokio::test]
async fn a_publish_waits_for_replicas_and_shows_nothing_before() {
    let master = TestServer::start(&["--repl-ping-replica-period", "1"]);
    let port = tcp_port(&master);
    let a = node_at(&[master.url()], "t", 1).await;
    let b = node_at(&[master.url()], "t", 1).await;
    b.follow(&ChannelPattern::parse("kept:a").unwrap()).await;
    let refused = a.publish("kept:a", 0).await.unwrap_err();
    assert!(
        refused.message().contains("cluster.redis.wait_replicas"),
        "{refused:?}"
    );
    assert_eq!(b.page("kept:a").await.top.offset, 0);
    let mut replica = TestServer::start(&[]);
    replica.asks(&format!("REPLICAOF 127.0.0.1 {port}"));
    a.insist("kept:a", 1).await;
    b.delivers(1..2).await;
    assert_eq!(b.page("kept:a").await.events.len(), 1);
    // The replica stops without a word: the event is stored, and shown only once a replica has it.
    replica.pause();
    let unclear = a.publish("kept:a", 2).await.unwrap_err();
    assert!(unclear.message().contains("not known"), "{unclear:?}");
    assert_eq!(b.page("kept:a").await.events.len(), 1);
    replica.go_on();
    a.insist("kept:a", 3).await;
    b.delivers(1..4).await;
    assert_eq!(b.page("kept:a").await.events.len(), 3);
}

#[tokio::test]
async fn a_cluster_serves_channels_and_patterns() {
    let ports = [free_port(), free_port(), free_port()];
    let servers: Vec<TestServer> = ports
        .iter()
        .map(|port| TestServer::start(&["--port", &port.to_string(), "--cluster-enabled", "yes"]))
        .collect();
    let members: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let created = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&members)
        .args(["--cluster-yes"])
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    until("all members know the cluster", async || {
        let is_ok = |server: &TestServer| server.asks("CLUSTER INFO").contains("cluster_state:ok");
        servers.iter().all(is_ok)
    })
    .await;
    let urls: Vec<String> = members
        .iter()
        .map(|member| format!("redis://{member}"))
        .collect();
    // Several addresses, or one of which it turns out that it is a member.
    let (a, b) = (
        node_at(&urls, "t", 0).await,
        node_at(&urls[2..], "t", 0).await,
    );
    assert_eq!(b.broker.shared.servers.map().unwrap().servers.len(), 3);
    b.follow(&ChannelPattern::parse("kept:*").unwrap()).await;
    b.follow(&ChannelPattern::parse("plain:1").unwrap()).await;
    for n in 0..60 {
        a.publish(&format!("kept:{}", n % 20), n).await.unwrap();
    }
    a.publish("plain:1", 60).await.unwrap();
    until("all are delivered", async || b.numbers().len() >= 61).await;
    b.settle().await;
    assert_eq!(b.numbers().len(), 61);
    let mut tops: HashMap<ChannelName, u64> = HashMap::new();
    for event in b.events() {
        let (Some(channel), Some(position)) = (event.channel.clone(), event.position) else {
            continue;
        };
        let top = tops.entry(channel).or_default();
        assert_eq!(position.offset, *top + 1);
        *top += 1;
    }
    assert_eq!((tops.len(), tops.values().sum()), (20, 60));
    assert_eq!(a.broker.list("kept:", "", 100).await.unwrap().len(), 20);
    let alone = Deployment::parse(&[&TestServer::shared().url(), &urls[0]]).unwrap();
    let servers = Servers::new(alone, Inbox::new(1024));
    let trouble = servers.connect(Duration::ZERO).await;
    assert!(trouble.is_ok(), "another address is a member: {trouble:?}");
}

#[tokio::test]
async fn servers_that_can_not_be_used_are_refused_by_name() {
    let open = async |url: &str| {
        let weak: Weak<dyn Sink> = Weak::<Recorder>::new();
        let settings = settings(url, Bounds::default());
        let opened = Redis::open(namespaces(), weak, Metrics::new("test"), settings).await;
        opened.err().unwrap().to_string()
    };
    let locked = TestServer::start(&[]);
    locked.asks("CONFIG SET requirepass secret");
    let said = open(&locked.url()).await;
    assert!(
        said.contains("cluster.redis.urls") && !said.contains("secret"),
        "{said}"
    );
    let evicting =
        TestServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let said = open(&evicting.url()).await;
    assert!(said.contains("noeviction"), "{said}");
    let said = open("redis+unix:///no/such/socket").await;
    assert!(said.contains("can't be reached"), "{said}");
}
