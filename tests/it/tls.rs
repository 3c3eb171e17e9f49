//! TLS on both listeners: certificates, client certificates, and renewal at run time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings::proto::connection_service_client::ConnectionServiceClient;
use tidings::proto::disconnect_request::Target;
use tidings::proto::{DisconnectRequest, GetStatsRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::attack_slow::drips;
use crate::harness::{Config, Server, Token, eventually, within};

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// A certificate for this name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, name.to_owned());
        let cert = params.signed_by(&key, &self.0).unwrap();
        (
            pem("CERTIFICATE", cert.der()),
            pem("PRIVATE KEY", &key.serialize_der()),
        )
    }

    /// Installs a new certificate at the configured path.
    fn renew(&self, dir: &Path) {
        let (cert, key) = self.sign("localhost");
        fs::write(dir.join("cert.pem"), cert).unwrap();
        fs::write(dir.join("key.pem"), key).unwrap();
    }
}

fn with_tls(config: Config) -> Config {
    ["public", "internal"]
        .into_iter()
        .fold(config, |config, table| {
            config
                .set(&format!("{table}.cert"), r#""cert.pem""#)
                .set(&format!("{table}.key"), r#""key.pem""#)
        })
}

async fn start(authority: &Authority, config: Config) -> Server {
    let dir: TempDir = tempfile::tempdir().unwrap();
    authority.renew(dir.path());
    fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
    Server::start_in(dir, config).await
}

/// A TLS connection that trusts this authority. The error is why it failed.
async fn dial(address: &str, authority: &Authority) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = within("TCP", TcpStream::connect(address)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connect = TlsConnector::from(Arc::new(client)).connect(name, socket);
    within("TLS", connect)
        .await
        .map_err(|error| error.to_string())
}

/// A WebSocket over TLS, after the welcome message.
async fn wss(server: &Server, authority: &Authority) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = dial(&server.public, authority).await.unwrap();
    let mut request = "ws://localhost/ws".into_client_request().unwrap();
    let token = format!("Bearer {}", Token::new("alice").sign());
    request
        .headers_mut()
        .insert("Authorization", token.parse().unwrap());
    let (mut ws, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    assert_eq!(message(&mut ws).await["type"], "connection_established");
    ws
}

async fn message(ws: &mut WebSocketStream<TlsStream<TcpStream>>) -> Value {
    loop {
        let message = within("a message", ws.next()).await.unwrap().unwrap();
        if let Ok(text) = message.to_text()
            && message.is_text()
        {
            return serde_json::from_str(text).unwrap();
        }
    }
}

async fn lives(ws: &mut WebSocketStream<TlsStream<TcpStream>>) {
    use futures_util::SinkExt as _;
    let ping = json!({"type": "ping"}).to_string();
    ws.send(tokio_tungstenite::tungstenite::Message::text(ping))
        .await
        .unwrap();
    while message(ws).await["type"] != "pong" {}
}

/// Requests the statistics over gRPC with this configuration. `Err` if it cannot connect.
async fn stats(server: &Server, tls: ClientTlsConfig, token: Option<&Token>) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("https://{}", server.internal)).unwrap();
    let endpoint = endpoint.tls_config(tls.domain_name("localhost")).unwrap();
    let channel = within("gRPC", endpoint.connect())
        .await
        .map_err(|e| format!("{e:?}"))?;
    let mut request = tonic::Request::new(GetStatsRequest::default());
    if let Some(token) = token {
        let token = format!("Bearer {}", token.sign()).parse().unwrap();
        request.metadata_mut().insert("authorization", token);
    }
    let mut client = ConnectionServiceClient::new(channel);
    let answer = within("the answer", client.get_stats(request)).await;
    answer.map(drop).map_err(|status| status.to_string())
}

/// Disconnects all connections of a user over gRPC.
async fn disconnect(server: &Server, tls: ClientTlsConfig, user: &str) {
    let endpoint = Endpoint::from_shared(format!("https://{}", server.internal)).unwrap();
    let endpoint = endpoint.tls_config(tls.domain_name("localhost")).unwrap();
    let channel = within("gRPC", endpoint.connect()).await.unwrap();
    let request = DisconnectRequest {
        target: Some(Target::User(user.to_owned())),
        reason: "enough".to_owned(),
        ..DisconnectRequest::default()
    };
    let mut client = ConnectionServiceClient::new(channel);
    within("the answer", client.disconnect(request))
        .await
        .unwrap();
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

#[tokio::test]
async fn both_listeners_serve_tls() {
    let authority = Authority::new();
    let server = start(&authority, with_tls(Config::rooms())).await;
    let mut ws = wss(&server, &authority).await;
    lives(&mut ws).await;

    let stream = dial(&server.public, &authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection);
    let request = http::Request::get("/healthz").header("Host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = within("the answer", sender.send_request(request))
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "ok\n");

    let admin = Token::new("root").roles(&["admin"]);
    stats(&server, trusting(&authority), Some(&admin))
        .await
        .unwrap();
    let refused = stats(&server, trusting(&authority), None)
        .await
        .unwrap_err();
    assert!(refused.contains("a token is needed"), "{refused}");
    let stranger = Authority::new();
    assert!(dial(&server.public, &stranger).await.is_err());
    assert!(
        stats(&server, trusting(&stranger), Some(&admin))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn socketio_upgrades_over_tls() {
    use futures_util::SinkExt as _;
    use tokio_tungstenite::tungstenite::Message;
    let authority = Authority::new();
    let server = start(&authority, with_tls(Config::socketio())).await;
    let stream = dial(&server.public, &authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio_util::task::TaskTracker::new().spawn(connection);
    let path = "/socket.io/?EIO=4&transport=polling";
    let request = http::Request::get(path).header("Host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let answer = within("the answer", sender.send_request(request)).await;
    let body = answer.unwrap().into_body().collect().await.unwrap();
    let open: Value = serde_json::from_slice(&body.to_bytes()[1..]).unwrap();
    let sid = open["sid"].as_str().unwrap();
    let stream = dial(&server.public, &authority).await.unwrap();
    let url = format!("ws://localhost/socket.io/?EIO=4&transport=websocket&sid={sid}");
    let (mut ws, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    ws.send(Message::text("2probe")).await.unwrap();
    let probe = within("the probe", ws.next()).await.unwrap().unwrap();
    assert_eq!(probe.to_text().unwrap(), "3probe");
    // All in one TLS record: what is already decrypted passes to the shard as well.
    ws.feed(Message::text("5")).await.unwrap();
    let token = Token::new("ada").sign();
    let connect = format!("40{}", json!({ "token": token }));
    ws.feed(Message::text(connect)).await.unwrap();
    ws.feed(Message::text("421[\"ping\"]")).await.unwrap();
    ws.flush().await.unwrap();
    for expected in ["40{", "42[\"connection_established\"", "431["] {
        let packet = within("a packet", ws.next()).await.unwrap().unwrap();
        assert!(
            packet.to_text().unwrap().starts_with(expected),
            "{packet:?}"
        );
    }
}

#[tokio::test]
async fn client_certificate_replaces_token() {
    let authority = Authority::new();
    let config = with_tls(Config::rooms())
        .set("internal.auth", r#""mtls""#)
        .set("internal.client_ca", r#""ca.pem""#)
        .set("audit.file", r#""audit.log""#);
    let server = start(&authority, config).await;
    let (cert, key) = authority.sign("backend");
    let with_certificate = trusting(&authority).identity(Identity::from_pem(cert, key));
    stats(&server, with_certificate.clone(), None)
        .await
        .unwrap();
    let ws = wss(&server, &authority).await;
    disconnect(&server, with_certificate, "alice").await;
    drop(ws);
    eventually("a note of who did it", async || {
        let log = fs::read_to_string(server.path("audit.log")).unwrap_or_default();
        let ended = log.lines().find(|l| l.contains(r#""disconnect""#))?;
        assert!(ended.contains(r#""by":"CN=backend""#), "{ended}");
        Some(())
    })
    .await;

    let admin = Token::new("root").roles(&["admin"]);
    assert!(
        stats(&server, trusting(&authority), Some(&admin))
            .await
            .is_err()
    );
    let (cert, key) = Authority::new().sign("backend");
    let foreign = trusting(&authority).identity(Identity::from_pem(cert, key));
    assert!(stats(&server, foreign, Some(&admin)).await.is_err());
    eventually("a note of the refusal", async || {
        let log = fs::read_to_string(server.path("audit.log")).unwrap_or_default();
        log.contains("the TLS handshake failed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn certificate_renewal_keeps_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let config = with_tls(Config::rooms());
    let server = start(&old, config.clone()).await;
    let mut ws = wss(&server, &old).await;

    new.renew(&server.path(""));
    server.reload(&config);
    eventually("the new certificate", async || {
        dial(&server.public, &new).await.ok()
    })
    .await;
    assert!(dial(&server.public, &old).await.is_err());
    let admin = Token::new("root").roles(&["admin"]);
    stats(&server, trusting(&new), Some(&admin)).await.unwrap();
    assert!(stats(&server, trusting(&old), Some(&admin)).await.is_err());
    lives(&mut ws).await;

    // An invalid certificate is refused, and so is a mismatched key.
    let (_, other_key) = new.sign("localhost");
    for (file, text) in [("cert.pem", "nonsense"), ("key.pem", other_key.as_str())] {
        let good = fs::read(server.path(file)).unwrap();
        let refusals = server.log().matches("was not reloaded").count();
        fs::write(server.path(file), text).unwrap();
        server.reload(&config);
        eventually("the refusal", async || {
            (server.log().matches("was not reloaded").count() > refusals).then_some(())
        })
        .await;
        assert!(server.log().contains("public."), "{}", server.log());
        fs::write(server.path(file), good).unwrap();
        dial(&server.public, &new).await.unwrap();
    }
    lives(&mut ws).await;
}

/// Handshakes and request heads have ten seconds, so this test takes that long.
#[tokio::test]
async fn stalled_tls_handshake_times_out() {
    let authority = Authority::new();
    let config = with_tls(Config::rooms())
        .set("internal.client_ca", r#""ca.pem""#)
        .set("audit.file", r#""audit.log""#);
    let server = start(&authority, config).await;
    // Announces a record of 16 KiB that contains a ClientHello.
    let record = "\u{16}\u{3}\u{1}\u{40}\u{0}\u{1}";
    let mut ends = JoinSet::new();
    for address in [&server.public, &server.internal] {
        for (first, drip) in [("", ""), ("\u{16}", ""), (record, ""), (record, "\u{0}")] {
            for _ in 0..10 {
                ends.spawn(drips(address.clone(), first.to_owned(), drip));
            }
        }
    }
    // And one that is silent after the handshake.
    let mut silent = dial(&server.public, &authority).await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(25), async {
        while let Some(ended) = ends.join_next().await {
            ended.unwrap();
        }
        let mut answer = Vec::new();
        // A reset counts too.
        let _ = silent.read_to_end(&mut answer).await;
        assert!(answer.is_empty());
    });
    let (_, late) = tokio::join!(wss(&server, &authority), late);
    assert!(late.is_ok(), "{} are held open", ends.len());
    eventually("notes of them", async || {
        let log = fs::read_to_string(server.path("audit.log")).unwrap_or_default();
        (log.matches("it took too long").count() >= 40).then_some(())
    })
    .await;
}
