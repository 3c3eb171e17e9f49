//! Client addresses, with and without proxies.

use tidings::proto::GetConnectionRequest;

use crate::harness::{Config, Server, Token};

/// The address that an admin sees of a connection with these headers.
async fn seen(server: &Server, headers: &[(&'static str, &str)]) -> String {
    let mut builder = server.ws().token("alice", &[]);
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    let ws = builder.connect().await;
    let request = GetConnectionRequest {
        connection_id: ws.id(),
    };
    let answer = server.admin().await.get_connection(request).await.unwrap();
    answer.into_inner().connection.unwrap().address
}

const X_FORWARDED_FOR: &str = "X-Forwarded-For";

#[tokio::test]
async fn no_proxy_is_trusted_by_default() {
    let server = Server::start(Config::rooms()).await;
    for header in [X_FORWARDED_FOR, "Forwarded", "X-Real-IP"] {
        let address = seen(&server, &[(header, "for=203.0.113.7")]).await;
        assert!(address.starts_with("127.0.0.1:"), "{header}: {address}");
    }
}

#[tokio::test]
async fn trusted_proxy_sets_client_address() {
    let config = Config::rooms().set(
        "public.trusted_proxies",
        r#"["127.0.0.0/8", "10.1.0.0/16"]"#,
    );
    let server = Server::start(config).await;
    for (line, expected) in [
        ("203.0.113.7", "203.0.113.7:"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7:"),
        ("203.0.113.7, 10.1.2.3", "203.0.113.7:"),
        ("2001:db8::7", "[2001:db8::7]:"),
        ("1.1.1.1, nonsense", "127.0.0.1:"),
        (",,,;=\"", "127.0.0.1:"),
        ("", "127.0.0.1:"),
    ] {
        let address = seen(&server, &[(X_FORWARDED_FOR, line)]).await;
        assert!(address.starts_with(expected), "{line}: {address}");
    }
    let address = seen(&server, &[("Forwarded", "for=203.0.113.7")]).await;
    assert!(
        address.starts_with("127.0.0.1:"),
        "another header: {address}"
    );
}

#[tokio::test]
async fn limits_apply_to_client_behind_proxy() {
    let config = Config::rooms()
        .set("public.trusted_proxies", r#"["127.0.0.1"]"#)
        .set("limits.connections_per_ip", "1");
    let server = Server::start(config).await;
    let ask = |from: &str| {
        let builder = server.ws().token("alice", &[]);
        builder.header(X_FORWARDED_FOR, from).upgrade()
    };
    let _one = ask("203.0.113.1").await.expect("admitted");
    let _two = ask("203.0.113.2").await.expect("admitted");
    assert_eq!(ask("203.0.113.1").await.map(drop), Err(429));
    // A client with a /64 does not get 2^64 connections.
    let _six = ask("2001:db8::1").await.expect("admitted");
    assert_eq!(ask("2001:db8::2").await.map(drop), Err(429));
    let _other = ask("2001:db8:0:1::1").await.expect("admitted");
}

#[tokio::test]
async fn forwarded_header_is_used_if_configured() {
    let config = Config::rooms()
        .set("public.trusted_proxies", r#"["127.0.0.1"]"#)
        .set("public.forwarded_header", r#""forwarded""#);
    let server = Server::start(config).await;
    let line = "for=\"[2001:db8::7]:4711\";proto=https";
    let address = seen(&server, &[("Forwarded", line)]).await;
    assert_eq!(address, "[2001:db8::7]:4711");
    let address = seen(&server, &[(X_FORWARDED_FOR, "203.0.113.7")]).await;
    assert!(address.starts_with("127.0.0.1:"), "{address}");
}

#[tokio::test]
async fn invalid_trusted_network_is_refused() {
    let config = Config::rooms().set("public.trusted_proxies", r#"["10.0.0.0/33"]"#);
    let (_, reported) = Server::refuses(config).await;
    assert!(reported.contains("public.trusted_proxies"), "{reported}");
    // The rest of the server is unchanged: a token does not allow setting the address.
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("root").roles(&["admin"]);
    assert_eq!(
        server.get_as(&admin, "/api/v1/connections").await.status,
        200
    );
}

#[tokio::test]
async fn ipv4_mapped_addresses_are_ipv4() {
    let config = Config::rooms()
        .set("public.listen", r#""[::]:0""#)
        .set("public.trusted_proxies", r#"["::ffff:127.0.0.1"]"#);
    let mut server = Server::start(config).await;
    let port = server.public.rsplit(':').next().unwrap().to_owned();
    server.public = format!("127.0.0.1:{port}");
    let address = seen(&server, &[]).await;
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let address = seen(&server, &[(X_FORWARDED_FOR, "::ffff:203.0.113.7")]).await;
    assert!(address.starts_with("203.0.113.7:"), "{address}");
}

#[tokio::test]
async fn untrusted_proxy_is_warned_about_once() {
    let server = Server::start(Config::rooms()).await;
    seen(&server, &[]).await;
    let notified = |server: &Server| server.log().matches("public.trusted_proxies").count();
    assert_eq!(notified(&server), 0, "{}", server.log());
    for _ in 0..3 {
        seen(&server, &[(X_FORWARDED_FOR, "203.0.113.7")]).await;
        seen(&server, &[("Forwarded", "for=203.0.113.7")]).await;
    }
    assert_eq!(notified(&server), 1, "{}", server.log());
    assert!(
        !server.log().contains("203.0.113.7"),
        "nobody's word is logged"
    );
    // A trusted proxy causes no warning.
    let config = Config::rooms().set("public.trusted_proxies", r#"["127.0.0.1"]"#);
    let server = Server::start(config).await;
    seen(&server, &[(X_FORWARDED_FOR, "203.0.113.7")]).await;
    assert_eq!(notified(&server), 0, "{}", server.log());
}
