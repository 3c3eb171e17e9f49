//! Checks of `[cluster]`.

use super::validate::Check;
use super::{ClusterConfig, Config, Engine, NatsConfig, RedisConfig, Secret};
use crate::broker::Redis;

/// The longest `cluster.name`: it is a part of stream names and keys.
const LONGEST_NAME: usize = 32;

/// Reports invalid settings in `[cluster]`.
pub(super) fn check(config: &Config, check: &mut Check<'_>) {
    let cluster = &config.cluster;
    check.expect(
        is_name(&cluster.name),
        "cluster.name",
        "expected 1 to 32 of A-Z a-z 0-9 _ -",
    );
    if cluster.engine != Engine::None {
        for key in ["history.storage", "history.path"] {
            check.expect(
                !check.is_set(key),
                key,
                "is for a node that is alone: with cluster.engine, the engine keeps history",
            );
        }
    }
    nats(&cluster.nats, check);
    redis(&cluster.redis, check);
}

impl ClusterConfig {
    /// True if no engine joins this node with others.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.engine == Engine::None
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

fn nats(nats: &NatsConfig, check: &mut Check<'_>) {
    let is_url = |url: &String| {
        ["nats://", "tls://"].iter().any(|scheme| {
            url.strip_prefix(scheme)
                .is_some_and(|host| !host.is_empty() && !host.contains('@'))
        })
    };
    check.expect(
        !nats.urls.is_empty() && nats.urls.iter().all(is_url),
        "cluster.nats.urls",
        "expected URLs such as \"nats://127.0.0.1:4222\" or \"tls://nats.example.com:4222\"; \
         user and password have keys of their own",
    );
    check.expect(
        [0, 1, 3, 5].contains(&nats.replicas),
        "cluster.nats.replicas",
        "expected 0, 1, 3 or 5",
    );
    check.expect(
        nats.partitions.is_power_of_two(),
        "cluster.nats.partitions",
        "expected 1, 2, 4, 8, 16, 32, 64, 128 or 256",
    );
    check.expect(
        nats.user.is_some() == nats.password.is_some(),
        "cluster.nats.password",
        "expected together with cluster.nats.user",
    );
    check.expect(
        nats.cert.is_some() == nats.key.is_some(),
        "cluster.nats.key",
        "expected together with cluster.nats.cert",
    );
    let ways = [
        nats.user.is_some(),
        nats.token.is_some(),
        nats.credentials_file.is_some(),
        nats.nkey_file.is_some(),
    ];
    check.expect(
        ways.into_iter().filter(|way| *way).count() <= 1,
        "cluster.nats.user",
        "expected at most one of user, token, credentials_file and nkey_file",
    );
    positive(nats.publish_timeout, "cluster.nats.publish_timeout", check);
    positive(nats.sweep, "cluster.nats.sweep", check);
}

fn redis(redis: &RedisConfig, check: &mut Check<'_>) {
    let schemes = [
        "redis://",
        "rediss://",
        "redis+sentinel://",
        "rediss+sentinel://",
    ];
    let is_url = |url: &Secret| {
        schemes
            .iter()
            .any(|scheme| url.expose().starts_with(scheme))
    };
    let are_urls = !redis.urls.is_empty() && redis.urls.iter().all(is_url);
    check.expect(
        are_urls,
        "cluster.redis.urls",
        "expected URLs such as \"redis://127.0.0.1:6379\", rediss:// or redis+sentinel://",
    );
    if are_urls {
        let urls: Vec<&str> = redis.urls.iter().map(Secret::expose).collect();
        let problem = Redis::check_urls(&urls).err();
        check.expect(
            problem.is_none(),
            "cluster.redis.urls",
            problem.unwrap_or_default(),
        );
    }
    positive(
        redis.publish_timeout,
        "cluster.redis.publish_timeout",
        check,
    );
    positive(redis.sweep, "cluster.redis.sweep", check);
}

fn positive(duration: std::time::Duration, key: &str, check: &mut Check<'_>) {
    check.expect(!duration.is_zero(), key, "expected more than 0s");
}
