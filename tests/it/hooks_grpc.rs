//! Hooks over gRPC, and the command `rpc` in protobuf.

use std::sync::{Arc, Mutex};

use prost::Message as _;
use tidings::proto::client_message::Command;
use tidings::proto::server_message::Message;
use tidings::proto::{ClientMessage, RpcCommand, ServerMessage};
use tidings_client::hooks::hooks_service_server::{HooksService, HooksServiceServer};
use tidings_client::hooks::{AskRequest, AskResponse};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::harness::{Config, RawWs, Server};

/// An application that answers over gRPC.
#[derive(Clone, Default)]
struct Application(Arc<Mutex<Vec<(tonic::metadata::MetadataMap, AskRequest)>>>);

#[tonic::async_trait]
impl HooksService for Application {
    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<AskResponse>, Status> {
        let (metadata, _, question) = request.into_parts();
        let asked = question.clone();
        self.0.lock().unwrap().push((metadata, question));
        let answer = match (asked.r#type.as_str(), asked.method.as_deref()) {
            ("connect", _) => AskResponse {
                allow: true,
                user: "ann".into(),
                roles: vec!["editor".into()],
                claims: r#"{"team":7}"#.into(),
                ..AskResponse::default()
            },
            ("rpc", Some("add")) => AskResponse {
                allow: true,
                data: Some(r#"{"sum":3.50}"#.into()),
                ..AskResponse::default()
            },
            ("rpc", Some("broken")) => return Err(Status::internal("a bug")),
            _ => AskResponse {
                code: "not_found".into(),
                message: "no such method".into(),
                ..AskResponse::default()
            },
        };
        Ok(Response::new(answer))
    }
}

async fn start() -> (Application, Config) {
    let application = Application::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = HooksServiceServer::new(application.clone());
    tokio_util::task::TaskTracker::new().spawn(async move {
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener))
            .await
            .unwrap();
    });
    let config = Config::rooms()
        .set("hooks.endpoint", &format!("\"grpc://{address}\""))
        .set("hooks.ask", r#"["connect", "rpc"]"#)
        .set("hooks.forward_headers", r#"["cookie"]"#)
        .set(
            "hooks.secret",
            r#""whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#,
        );
    (application, config)
}

async fn next(ws: &mut RawWs) -> Message {
    loop {
        let frame = ws.next().await.expect("a frame");
        if frame.opcode == 2 {
            let message = ServerMessage::decode(&*frame.payload).expect("a message");
            return message.message.expect("a message");
        }
    }
}

async fn call(ws: &mut RawWs, method: &str) -> Message {
    let command = RpcCommand {
        method: method.to_owned(),
        data: "[1,2.5]".into(),
    };
    let message = ClientMessage {
        id: String::new(),
        command: Some(Command::Rpc(command)),
    };
    ws.send(0x82, &message.encode_to_vec()).await;
    next(ws).await
}

#[tokio::test]
async fn application_answers_over_grpc_and_clients_call_it_in_protobuf() {
    let (application, config) = start().await;
    let server = Server::start(config).await;
    let headers = [
        ("Sec-WebSocket-Protocol", "tidings.v1.proto"),
        ("Cookie", "session=ann-1"),
    ];
    let mut ann = RawWs::connect(&server.public, &headers).await;
    let Message::ConnectionEstablished(hello) = next(&mut ann).await else {
        panic!("the welcome comes first");
    };
    assert_eq!(
        (hello.user.as_str(), hello.roles),
        ("ann", vec!["editor".to_owned()])
    );
    let Message::Rpc(reply) = call(&mut ann, "add").await else {
        panic!("a result");
    };
    assert_eq!(&*reply.data, br#"{"sum":3.50}"#);
    for (method, code) in [("unheard", "not_found"), ("broken", "unavailable")] {
        let Message::Error(failure) = call(&mut ann, method).await else {
            panic!("{method} is refused");
        };
        assert_eq!(failure.code, code);
    }
    let asked = application.0.lock().unwrap().clone();
    let (metadata, connect) = &asked[0];
    let signature = metadata.get("webhook-signature").unwrap();
    assert!(signature.to_str().unwrap().starts_with("v1,"));
    let header = &connect.headers[0];
    assert_eq!(
        (header.name.as_str(), header.value.as_str()),
        ("cookie", "session=ann-1")
    );
    let (_, rpc) = &asked[1];
    let connection = rpc.connection.clone().unwrap();
    assert_eq!(
        (connection.id, connection.user.as_str()),
        (hello.connection_id, "ann")
    );
    assert_eq!(connection.claims, r#"{"team":7}"#);
    assert_eq!(rpc.data.as_deref(), Some(&b"[1,2.5]"[..]));
}
