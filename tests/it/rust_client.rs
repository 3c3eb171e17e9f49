//! The Rust client (`clients/rust`) against the real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidings_client::{Backoff, Builder, Client, Code, NewEvent, Step, Subscribe, Subscription};
use tokio::task::JoinSet;

use crate::harness::{Config, Server, Token, within};

const QUICK: Backoff = Backoff {
    first: Duration::from_millis(20),
    longest: Duration::from_millis(200),
};

fn builder(server: &Server) -> Builder {
    Client::builder(format!("http://{}", server.internal)).backoff(QUICK)
}

fn service(server: &Server) -> Client {
    let token = Token::new("svc").roles(&["service"]).sign();
    builder(server).token(token).build().unwrap()
}

/// The same server, restarted at the same address.
fn again(server: &Server, config: Config) -> Config {
    config.set("internal.listen", &format!("{:?}", server.internal))
}

fn count(n: u64) -> NewEvent {
    NewEvent::json("count.up", &json!({ "n": n }))
        .unwrap()
        .channel("room:1")
}

async fn next(following: &mut Subscription) -> Step {
    within("a step", following.next()).await.unwrap().unwrap()
}

/// The state of the channel: whether it has recovered.
async fn began(following: &mut Subscription) -> Option<bool> {
    match next(following).await {
        Step::Subscribed(joined) => joined.recovered,
        other @ (Step::Event(_) | Step::Gap(_)) => panic!("expected how it stands: {other:?}"),
    }
}

async fn number(following: &mut Subscription) -> u64 {
    match next(following).await {
        Step::Event(event) => event.json::<Value>().unwrap()["n"].as_u64().unwrap(),
        other @ (Step::Subscribed(_) | Step::Gap(_)) => panic!("expected an event: {other:?}"),
    }
}

#[tokio::test]
async fn published_event_reaches_subscription() {
    let server = Server::start(Config::rooms()).await;
    let client = service(&server);
    let mut following = client.subscribe(Subscribe::to(["room:1"]).event_type("count.*"));
    assert_eq!(began(&mut following).await, None);
    let other = NewEvent::json("other", &1).unwrap().channel("room:1");
    client.publish(other).await.unwrap();
    let event = count(7).header("a", "b").key("k").source("clock");
    let published = client.publish(event).await.unwrap();
    let Step::Event(event) = next(&mut following).await else {
        panic!("expected an event");
    };
    assert_eq!(event.id(), published.id);
    assert_eq!(event.position(), published.results[0].position.as_ref());
    assert_eq!(
        (event.event_type(), event.channel(), event.source()),
        ("count.up", "room:1", "clock")
    );
    assert_eq!(event.headers()["a"], "b");
    assert_eq!(event.content_type(), "application/json");
    assert_eq!(&event.data()[..], br#"{"n":7}"#);
    assert!(event.time().is_some());
}

#[tokio::test]
async fn each_event_of_batch_has_own_result() {
    let server = Server::start(Config::rooms()).await;
    let client = service(&server);
    let wrong = NewEvent::json("no type", &1).unwrap().channel("room:1");
    let answers = client
        .publish_batch([count(1), wrong, count(2)])
        .await
        .unwrap();
    assert_eq!(answers.len(), 3);
    let refused = answers[1].as_ref().unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.field().unwrap().ends_with("type"), "{refused:?}");
    let offset = |at: usize| answers[at].as_ref().unwrap().results[0].position.clone();
    assert_eq!(offset(0).unwrap().offset, 1);
    assert_eq!(offset(2).unwrap().offset, 2);
}

#[tokio::test]
async fn client_resumes_after_kill_9_without_loss() {
    let config = Config::rooms().set("history.storage", r#""disk""#);
    let server = Server::start(config.clone()).await;
    let client = service(&server);
    let interruptions = Arc::new(AtomicUsize::new(0));
    let received = Arc::clone(&interruptions);
    let wanted = Subscribe::to(["room:1"]).on_interruption(move |_| {
        received.fetch_add(1, Ordering::Relaxed);
    });
    let mut following = client.subscribe(wanted);
    assert_eq!(began(&mut following).await, None);
    client.publish(count(1)).await.unwrap();
    assert_eq!(number(&mut following).await, 1);

    let config = again(&server, config);
    let dir = server.kill().await;
    let publisher = client.clone();
    // Sent while the server is down, and answered once it is up.
    let mut late = JoinSet::new();
    late.spawn(async move { publisher.publish(count(2)).await });
    let _server = Server::start_in(dir, config).await;
    late.join_all().await.remove(0).unwrap();
    assert_eq!(began(&mut following).await, Some(true));
    client.publish(count(3)).await.unwrap();
    assert_eq!(number(&mut following).await, 2);
    assert_eq!(number(&mut following).await, 3);
    assert!(interruptions.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn restart_without_history_requests_reload() {
    let server = Server::start(Config::rooms()).await;
    let client = service(&server);
    client.publish(count(1)).await.unwrap();
    let mut following = client.subscribe(Subscribe::to(["room:1"]).rewind(1));
    assert_eq!(began(&mut following).await, None);
    assert_eq!(number(&mut following).await, 1);
    let config = again(&server, Config::rooms());
    let _server = Server::start_in(server.kill().await, config).await;
    let step = next(&mut following).await;
    assert!(step.is_stale(), "{step:?}");
    client.publish(count(2)).await.unwrap();
    assert_eq!(number(&mut following).await, 2);
}

#[tokio::test]
async fn another_process_resumes_from_positions() {
    let server = Server::start(Config::rooms()).await;
    let client = service(&server);
    let mut first = client.subscribe(Subscribe::to(["room:*"]));
    began(&mut first).await;
    for n in 1..=3 {
        client.publish(count(n)).await.unwrap();
    }
    assert_eq!(number(&mut first).await, 1);
    let position = first.positions()["room:1"].clone();
    drop(first);
    let mut second = client.subscribe(Subscribe::to(["room:1"]).since("room:1", position));
    assert_eq!(began(&mut second).await, Some(true));
    assert_eq!(number(&mut second).await, 2);
    assert_eq!(number(&mut second).await, 3);
}

#[tokio::test]
async fn refused_channel_ends_subscription_with_its_name() {
    let server = Server::start(Config::rooms()).await;
    let token = Token::new("ann").sign();
    let client = builder(&server).token(token).build().unwrap();
    let mut following = client.subscribe(Subscribe::to(["room:1", "project:1"]));
    let error = within("an answer", following.next())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert_eq!(error.channel(), Some("project:1"));
    assert!(following.next().await.is_none());
}

#[tokio::test]
async fn refused_token_is_fetched_anew() {
    let server = Server::start(Config::rooms()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let asks = Arc::clone(&asked);
    let client = builder(&server)
        .token_provider(move || {
            let first = asks.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                let token = Token::new("svc").roles(&["service"]);
                let token = if first {
                    token.secret("another secret of the same length")
                } else {
                    token
                };
                Ok(token.sign())
            }
        })
        .build()
        .unwrap();
    client.publish(count(1)).await.unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let mut following = client.subscribe(Subscribe::to(["room:1"]).rewind(1));
    began(&mut following).await;
    assert_eq!(number(&mut following).await, 1);
    assert_eq!(asked.load(Ordering::Relaxed), 2, "a good token is kept");
}

#[tokio::test]
async fn readme_example_equals_hello_rs() {
    let readme = include_str!("../../clients/rust/README.md");
    let example = include_str!("../../clients/rust/examples/hello.rs");
    let shown = readme
        .split("```rust,no_run\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let (_, example) = example.split_once("\n\n").unwrap();
    assert_eq!(shown, Some(example));
}
