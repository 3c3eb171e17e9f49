//! Driver of the behaviour suite (`clients/behaviour`): does what a case says, and prints what it
//! sees.

#![allow(clippy::print_stdout, reason = "what it is for")]
#![allow(clippy::indexing_slicing, reason = "a missing member of JSON is null")]

use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tidings_client::{
    Backoff, Client, NewEvent, Position, Published, Step, Subscribe, Subscription, code_name,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let case = std::env::args().nth(1).ok_or("expected a case")?;
    let case: Value = serde_json::from_str(&case)?;
    let mut builder = Client::builder(text(&case["server"])).backoff(Backoff {
        first: Duration::from_millis(20),
        longest: Duration::from_millis(100),
    });
    if let Some(token) = case["token"].as_str() {
        builder = builder.token(token);
    }
    if let Some(tokens) = case["tokens"].as_array() {
        let tokens: Vec<_> = tokens.iter().map(text).collect();
        let left = Mutex::new(tokens.into_iter());
        builder = builder.token_provider(move || {
            let next = left.lock().ok().and_then(|mut left| left.next());
            async move { next.ok_or_else(|| "there are no more tokens".into()) }
        });
    }
    let client = builder.build()?;
    if let Some(count) = case["publish"].as_u64() {
        publish(&client, count, case["stream"] == true).await?;
    } else {
        subscribe(&client, &case["subscribe"]).await?;
    }
    Ok(())
}

async fn publish(client: &Client, count: u64, as_stream: bool) -> Result<(), Box<dyn Error>> {
    let publisher = client.publisher(100);
    let mut receipts = Vec::new();
    for n in 0..count {
        let event = NewEvent::json("n", &n)?.channel("project:1");
        if as_stream {
            receipts.push(publisher.publish(event).await?);
        } else {
            say(n, client.publish(event).await);
        }
    }
    for (n, receipt) in (0..count).zip(receipts) {
        say(n, receipt.await);
    }
    Ok(())
}

fn say(n: u64, outcome: tidings_client::Result<Published>) {
    match outcome {
        Ok(published) => {
            let position = published.results.first().and_then(|r| r.position.as_ref());
            println!("published {n} {}", position.map_or(0, |p| p.offset));
        }
        Err(error) => println!("failed {}", code_name(error.code())),
    }
}

async fn subscribe(client: &Client, wanted: &Value) -> Result<(), Box<dyn Error>> {
    let channels = wanted["channels"].as_array().into_iter().flatten();
    let mut what = Subscribe::to(channels.map(text));
    what = what.rewind(u32::try_from(wanted["rewind"].as_u64().unwrap_or(0))?);
    for (channel, position) in wanted["since"].as_object().into_iter().flatten() {
        what = what.since(channel, text(position).parse::<Position>()?);
    }
    if let Some(name) = wanted["durable"].as_str() {
        what = what.durable(name);
    }
    if wanted["auto_ack"] == true {
        what = what.auto_ack();
    }
    if let Some(millis) = wanted["min_interval_ms"].as_u64() {
        what = what.min_interval(Duration::from_millis(millis));
    }
    let mut subscription = client.subscribe(what);
    while let Some(step) = subscription.next().await {
        match step {
            Ok(step) => {
                show(&step);
                ack(&subscription, wanted, &step).await?;
            }
            Err(error) => println!("failed {}", code_name(error.code())),
        }
    }
    Ok(())
}

/// Acknowledges what the case says for this event.
async fn ack(following: &Subscription, wanted: &Value, step: &Step) -> Result<(), Box<dyn Error>> {
    let Step::Event(event) = step else {
        return Ok(());
    };
    let seen = event.position().map(|position| position.offset);
    for pair in wanted["acks"].as_array().into_iter().flatten() {
        if pair[0].as_u64() == seen {
            let offset = pair[1].as_u64().unwrap_or(0);
            following.ack(event.channel(), offset).await?;
        }
    }
    Ok(())
}

fn show(step: &Step) {
    let channel = match step {
        Step::Event(event) => {
            let offset = event.position().map(|position| position.offset.to_string());
            println!(
                "event {} {}",
                event.channel(),
                offset.as_deref().unwrap_or("-")
            );
            return;
        }
        Step::Subscribed(joined) => &joined.channel,
        Step::Gap(gap) => &gap.channel,
    };
    if step.is_stale() {
        println!("stale {channel}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
