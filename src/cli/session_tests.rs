//! Commands against a server that answers what it is told to.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use clap::Parser;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use super::failure::Failure;
use super::output::Output;
use super::{Cli, Command, publish, tail};
use crate::proto::event_service_server::{EventService, EventServiceServer};
use crate::proto::subscribe_response::Message;
use crate::proto::{
    Event, Gap, GetHistoryRequest, GetHistoryResponse, Position, PublishBatchRequest,
    PublishBatchResponse, PublishRequest, PublishResponse, PublishResult, PublishStreamRequest,
    PublishStreamResponse, SubscribeRequest, SubscribeResponse, Subscribed, SubscribedChannel,
};

struct Fake;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn position(offset: u64) -> Position {
    Position {
        epoch: String::from("ff"),
        offset,
    }
}

fn identified<T>(request: &Request<T>) -> Result<(), Status> {
    let header = request
        .metadata()
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    match header {
        Some("Bearer good") => Ok(()),
        Some(_) | None => Err(Status::unauthenticated("no valid token")),
    }
}

#[tonic::async_trait]
impl EventService for Fake {
    type PublishStreamStream = Answers<PublishStreamResponse>;
    type SubscribeStream = Answers<SubscribeResponse>;

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        identified(&request)?;
        let request = request.into_inner();
        if request.r#type == "ping" {
            let details = ErrorDetails::with_bad_request_violation("type", "is a control name");
            return Err(Status::with_error_details(
                tonic::Code::InvalidArgument,
                "refused",
                details,
            ));
        }
        let result = |channel| PublishResult {
            channel,
            position: Some(position(1)),
            subscribers: 2,
            duplicate: false,
        };
        let results = request.channels.into_iter().map(result).collect();
        Ok(Response::new(PublishResponse {
            id: String::from("id-1"),
            results,
            error: None,
        }))
    }

    async fn publish_batch(
        &self,
        _: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn publish_stream(
        &self,
        _: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        identified(&request)?;
        let channels = request.into_inner().subscriptions.into_iter();
        let channels = channels
            .map(|s| SubscribedChannel {
                channel: s.channel,
                position: Some(position(1)),
                recovered: true,
                replayed: 0,
            })
            .collect();
        let event = Event {
            r#type: String::from("a.b"),
            channel: String::from("c:1"),
            data: Bytes::from_static(b"{\"x\":1}"),
            position: Some(position(2)),
            ..Event::default()
        };
        let reason = String::from("slow_consumer");
        let gap = Gap {
            channel: String::from("c:1"),
            from: 3,
            to: 5,
            reason,
        };
        let steps = [
            Message::Subscribed(Subscribed {
                channels,
                ..Subscribed::default()
            }),
            Message::Event(event.clone()),
            Message::Gap(gap),
            Message::Event(event),
        ];
        let steps = steps.map(|message| {
            Ok(SubscribeResponse {
                message: Some(message),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(steps))))
    }

    async fn get_history(
        &self,
        _: Request<GetHistoryRequest>,
    ) -> Result<Response<GetHistoryResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// What a command printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("unbroken").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a command against the fake server; what it printed and how it ended.
async fn run(line: &[&str]) -> (String, Result<(), Failure>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let service = EventServiceServer::new(Fake);
    let server = tonic::transport::Server::builder().add_service(service);
    let server = server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener));

    let printed = Printed::default();
    let words = ["tidings", "--server", &url]
        .into_iter()
        .chain(line.iter().copied());
    let cli = Cli::try_parse_from(words).expect("a command");
    let mut output = Output::to(printed.clone(), cli.json);
    let command = async {
        if let Command::Publish(args) = cli.command {
            publish::run(args, &cli.target, &mut output).await
        } else if let Command::Tail(args) = cli.command {
            tail::run(args, &cli.target, &mut output).await
        } else {
            panic!("not for this server")
        }
    };
    let outcome = tokio::select! {
        outcome = command => outcome,
        ended = server => panic!("the server ended: {ended:?}"),
    };
    let text = String::from_utf8(printed.0.lock().expect("unbroken").clone()).expect("UTF-8");
    (text, outcome)
}

#[tokio::test]
async fn publish_prints_id_and_place() {
    let (text, outcome) = run(&["--token", "good", "publish", "c:1", "a.b", "{}"]).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        text,
        "ID    CHANNEL  POSITION  SUBSCRIBERS  DUPLICATE\nid-1  c:1      ff/1      2            no\n"
    );
}

#[tokio::test]
async fn publish_for_machines_is_one_line_named_as_in_the_schema() {
    let (text, outcome) = run(&["--json", "--token", "good", "publish", "c:1", "a.b", "{}"]).await;
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        text,
        "{\"id\":\"id-1\",\"results\":[{\"channel\":\"c:1\",\"duplicate\":false,\"position\":{\"epoch\":\"ff\",\"offset\":1},\"subscribers\":2}]}\n"
    );
}

#[tokio::test]
async fn a_refusal_names_code_and_field() {
    let (text, outcome) = run(&["--token", "good", "publish", "c:1", "ping", "{}"]).await;
    assert_eq!(text, "");
    assert_eq!(
        outcome,
        Err(Failure::new(
            "invalid_argument: refused\n  type: is a control name"
        ))
    );
}

#[tokio::test]
async fn a_wrong_token_is_refused_by_the_server() {
    let (_, outcome) = run(&["--token", "bad", "tail", "c:1"]).await;
    assert_eq!(
        outcome,
        Err(Failure::new("unauthenticated: no valid token"))
    );
}

#[tokio::test]
async fn tail_prints_events_and_gaps_until_the_count_is_reached() {
    let (text, outcome) = run(&["--token", "good", "tail", "c:1", "--count", "2"]).await;
    assert_eq!(outcome, Ok(()));
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let event = "c:1/2 a.b {\"x\":1}";
    assert_eq!(
        lines,
        [event, "-- gap in c:1: 3 to 5 (slow_consumer)", event]
    );
}

#[tokio::test]
async fn tail_for_machines_prints_the_fields_of_the_websocket() {
    let (text, outcome) = run(&["--json", "--token", "good", "tail", "c:1"]).await;
    assert_eq!(
        outcome,
        Err(Failure::new("unavailable: the server ended the stream"))
    );
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let types: Vec<_> = lines
        .iter()
        .filter_map(|line| line.get("type")?.as_str())
        .collect();
    assert_eq!(types, ["a.b", "gap", "a.b"]);
    assert_eq!(
        lines.first().and_then(|line| line.pointer("/data/x")),
        Some(&serde_json::json!(1))
    );
    assert_eq!(
        lines.first().and_then(|line| line.pointer("/offset")),
        Some(&serde_json::json!(2))
    );
    assert_eq!(
        lines.get(1).and_then(|line| line.pointer("/to")),
        Some(&serde_json::json!(5))
    );
}
