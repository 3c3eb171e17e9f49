//! The example of the README.
#![allow(clippy::print_stdout, reason = "what it is for")]

use tidings_client::{Client, NewEvent, Step, Subscribe};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = std::env::var("TIDINGS_SERVER").unwrap_or("127.0.0.1:50051".into());
    let token = std::env::var("TIDINGS_TOKEN")?;
    let client = Client::builder(server).token(token).build()?;
    let mut demo = client.subscribe(Subscribe::to(["demo"]));
    while let Some(step) = demo.next().await {
        match step? {
            Step::Subscribed(_) => {
                let greeting = serde_json::json!({ "text": "hello from Rust" });
                client
                    .publish(NewEvent::json("greeting", &greeting)?.channel("demo"))
                    .await?;
            }
            Step::Event(event) => {
                println!(
                    "{} {}",
                    event.event_type(),
                    event.json::<serde_json::Value>()?
                );
                break;
            }
            Step::Gap(gap) => println!("missed {} to {}", gap.first, gap.last),
        }
    }
    Ok(())
}
