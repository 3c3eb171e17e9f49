//! Where a request comes from, behind proxies and without.

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
async fn by_default_nobody_is_believed() {
    let server = Server::start(Config::rooms()).await;
    for header in [X_FORWARDED_FOR, "Forwarded", "X-Real-IP"] {
        let address = seen(&server, &[(header, "for=203.0.113.7")]).await;
        assert!(address.starts_with("127.0.0.1:"), "{header}: {address}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_as_far_as_it_knows() {
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
async fn limits_count_the_client_and_not_the_proxy() {
    let config = Config::rooms()
        .set("public.trusted_proxies", r#"["127.0.0.1"]"#)
        .set("limits.connections_per_ip", "1");
    let server = Server::start(config).await;
    let ask = |from: &str| {
        let builder = server.ws().token("alice", &[]);
        builder.header(X_FORWARDED_FOR, from).upgrade()
    };
    let _one = ask("203.0.113.1").await.expect("let in");
    let _two = ask("203.0.113.2").await.expect("let in");
    assert_eq!(ask("203.0.113.1").await.map(drop), Err(429));
    // Who has a /64 has no 2^64 connections.
    let _six = ask("2001:db8::1").await.expect("let in");
    assert_eq!(ask("2001:db8::2").await.map(drop), Err(429));
    let _other = ask("2001:db8:0:1::1").await.expect("let in");
}

#[tokio::test]
async fn the_standard_header_is_looked_at_where_it_is_chosen() {
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
async fn what_is_no_network_is_refused() {
    let config = Config::rooms().set("public.trusted_proxies", r#"["10.0.0.0/33"]"#);
    let (_, said) = Server::refuses(config).await;
    assert!(said.contains("public.trusted_proxies"), "{said}");
    // The rest of the server is as it was: a token alone lets nobody say where it is.
    let server = Server::start(Config::rooms()).await;
    let admin = Token::new("root").roles(&["admin"]);
    assert_eq!(
        server.get_as(&admin, "/api/v1/connections").await.status,
        200
    );
}

#[tokio::test]
async fn addresses_of_ipv4_within_ipv6_are_those_of_ipv4() {
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
async fn a_proxy_that_is_not_trusted_is_told_of_once() {
    let server = Server::start(Config::rooms()).await;
    seen(&server, &[]).await;
    let told = |server: &Server| server.log().matches("public.trusted_proxies").count();
    assert_eq!(told(&server), 0, "{}", server.log());
    for _ in 0..3 {
        seen(&server, &[(X_FORWARDED_FOR, "203.0.113.7")]).await;
        seen(&server, &[("Forwarded", "for=203.0.113.7")]).await;
    }
    assert_eq!(told(&server), 1, "{}", server.log());
    assert!(
        !server.log().contains("203.0.113.7"),
        "nobody's word is logged"
    );
    // One that is trusted is no news.
    let config = Config::rooms().set("public.trusted_proxies", r#"["127.0.0.1"]"#);
    let server = Server::start(config).await;
    seen(&server, &[(X_FORWARDED_FOR, "203.0.113.7")]).await;
    assert_eq!(told(&server), 0, "{}", server.log());
}
