//! The OpenAPI document, the HTTP API and the output of the commands are of the same types.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Config, Server, Token, eventually};

fn members(json: &Value) -> BTreeSet<&str> {
    let object = json.as_object().unwrap_or_else(|| panic!("{json}"));
    object.keys().map(String::as_str).collect()
}

fn admin() -> Token {
    Token::new("root").roles(&["admin", "service"])
}

#[tokio::test]
async fn document_has_the_methods_of_every_path() {
    let server = Server::start(Config::rooms()).await;
    let document = server.get_as(&admin(), "/openapi.json").await.json();
    for (path, item) in document["paths"].as_object().unwrap() {
        let mut described = BTreeSet::new();
        for method in item.as_object().unwrap().keys() {
            described.insert(method.to_uppercase());
            if method == "get" {
                described.insert("HEAD".to_owned());
            }
        }
        let path = path.replace(['{', '}'], "");
        let options = server.http(Method::OPTIONS, &path, &[], "").await;
        let allowed = options.header("allow").split(',').map(str::to_owned);
        assert_eq!(described, allowed.collect(), "{path}");
    }
}

#[tokio::test]
async fn unknown_parameter_is_answered_with_those_of_the_document() {
    let server = Server::start(Config::rooms()).await;
    let document = server.get_as(&admin(), "/openapi.json").await.json();
    for (path, needed) in [
        ("/api/v1/stats", ""),
        ("/api/v1/refusals", ""),
        ("/api/v1/channels", ""),
        ("/stream", "channel=room:1&"),
    ] {
        let parameters = document["paths"][path]["get"]["parameters"].as_array();
        let names = parameters.unwrap().iter();
        let names: Vec<&str> = names.map(|one| one["name"].as_str().unwrap()).collect();
        let asked = format!("{path}?{needed}unknown=1");
        let refused = server.get_as(&admin(), &asked).await;
        let problem = refused.assert_problem(400);
        assert_eq!(problem["errors"][0]["field"], "unknown", "{path}");
        let message = problem["errors"][0]["message"].as_str().unwrap();
        assert!(message.ends_with(&names.join(", ")), "{path}: {message}");
    }
}

#[tokio::test]
async fn commands_print_what_http_answers() {
    let server = Server::start(Config::rooms()).await;
    let token = admin();
    let mut ws = server.ws().token("alice", &["editor"]).connect().await;
    ws.subscribe("room:1").await;
    let id = ws.id();
    let cli = async |args: &[&str]| {
        let done = server.cli(args).run().await.exits(0);
        serde_json::from_str::<Value>(done.stdout.lines().next().unwrap()).unwrap()
    };

    let http = server.get_as(&token, "/api/v1/stats").await.json();
    let printed = cli(&["stats", "--json"]).await;
    assert_eq!(members(&printed), members(&http));
    for part in ["connections", "events", "bytes", "latency"] {
        assert_eq!(members(&printed[part]), members(&http[part]), "{part}");
    }

    let path = format!("/api/v1/connections/{id}");
    let http = server.get_as(&token, &path).await.json();
    let printed = cli(&["connections", "--user", "alice", "--json"]).await;
    let mut expected = members(&http);
    expected.remove("subscription_count");
    assert_eq!(members(&printed), expected);
    assert_eq!(printed["subscriptions"], http["subscriptions"]);
    assert_eq!(printed["claims"], http["claims"]);

    let http = server
        .get_as(&token, "/api/v1/channels?prefix=room:1")
        .await
        .json();
    let printed = cli(&["channels", "--prefix", "room:1", "--json"]).await;
    assert_eq!(members(&printed), members(&http["channels"][0]));
    assert_eq!(printed["channel"], "room:1");

    let question = json!({"user": "alice", "action": "publish", "channel": "room:1"});
    let bearer = format!("Bearer {}", token.sign());
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let body = question.to_string();
    let http = server.http(Method::POST, "/api/v1/explain", &headers, &body);
    let http = http.await.json();
    let printed = cli(&["explain", "--user", "alice", "publish", "room:1", "--json"]).await;
    assert_eq!(printed, http);

    ws.send(json!({"type": "subscribe", "channels": ["nowhere:1"]}))
        .await;
    eventually("the refusal", async || {
        let http = server.get_as(&token, "/api/v1/refusals").await.json();
        (http["refusals"] != json!([])).then_some(())
    })
    .await;
    let http = server
        .get_as(&token, "/api/v1/refusals?limit=1")
        .await
        .json();
    let printed = cli(&["refusals", "--recent", "1", "--json"]).await;
    assert_eq!(printed, http["refusals"][0]);
}
