//! The prepared statements.
//!
//! An advisory lock has two numbers. The writer's function (`migration.sql`) locks channels by the oid
//! of `tidings_outbox` and the hash of the name. All other locks have the oid of
//! `tidings_dead_letters`, and 100,000, 200,000 or 300,000 and more.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::super::driver::Failure;
use super::connection::failure;

/// The oldest version of the server, as in `server_version_num`.
const OLDEST: i32 = 140_000;

/// The settings of a session, and the notifications.
const SESSION: &str = "
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2;
    SET jit = off; SET synchronous_commit = on; SET statement_timeout = '30s';
    SET idle_session_timeout = 0; SET default_transaction_isolation = 'read committed';
    LISTEN tidings_outbox";

/// Channel and type are cut just beyond the longest valid name, so that a longer one stays invalid.
/// The sum ends a batch after the record that passes the mark.
const READ: &str = "
    SELECT id, channel, type, CASE WHEN size <= $4 THEN data END, key, headers, micros
    FROM (
      SELECT *, (sum(size) OVER (ORDER BY id) - size)::bigint AS before FROM (
        SELECT *, octet_length(data)::bigint AS size FROM (
          SELECT id, left(channel, 256) AS channel, left(type, 129) AS type, data::text AS data,
                 left(idempotency_key, 256) AS key, left(headers::text, 65536) AS headers,
                 (least(greatest(extract(epoch FROM created_at), -1e12), 1e12) * 1000000)::bigint AS micros
          FROM tidings_outbox WHERE bucket = ANY($1) AND id >= $2 ORDER BY id LIMIT $3
        ) AS texts
      ) AS sizes
    ) AS sums
    WHERE before < $5 ORDER BY id";

/// By id and time: after a restore of the database, the id may be that of another row.
const DELETE: &str = "
    DELETE FROM tidings_outbox AS o USING unnest($1::bigint[], $2::bigint[]) AS s (id, micros)
    WHERE o.id = s.id
      AND (least(greatest(extract(epoch FROM o.created_at), -1e12), 1e12) * 1000000)::bigint = s.micros";

const BURY: &str = "
    WITH reasons AS (SELECT * FROM unnest($1::bigint[], $2::text[]) AS r (id, reason)),
    gone AS (DELETE FROM tidings_outbox WHERE id = ANY($1) RETURNING *)
    INSERT INTO tidings_dead_letters
      (id, channel, type, data, idempotency_key, headers, created_at, reason)
    SELECT g.id, g.channel, g.type, g.data, g.idempotency_key, g.headers, g.created_at, r.reason
    FROM gone AS g JOIN reasons AS r USING (id) ORDER BY g.id";

const FORGET_DEAD: &str = "
    DELETE FROM tidings_dead_letters
    WHERE number <= (SELECT max(number) - 10000 FROM tidings_dead_letters)";

const SLEEP: &str = "
    SELECT bucket FROM unnest($1::int[]) AS bucket
    WHERE pg_try_advisory_lock('tidings_dead_letters'::regclass::oid::int, 200000 + bucket)";

const WAKE: &str = "
    SELECT pg_advisory_unlock('tidings_dead_letters'::regclass::oid::int, 200000 + bucket)
    FROM unnest($1::int[]) AS bucket";

const LAG: &str = "
    SELECT count(*) FROM (SELECT FROM tidings_outbox WHERE id >= $1 LIMIT $2) AS waiting";

const TAKE: &str = "
    SELECT bucket FROM unnest($1::int[]) AS bucket
    WHERE pg_try_advisory_lock('tidings_dead_letters'::regclass::oid::int, 100000 + bucket)
    LIMIT $2";

const GIVE: &str = "
    SELECT pg_advisory_unlock('tidings_dead_letters'::regclass::oid::int, 100000 + bucket)
    FROM unnest($1::int[]) AS bucket";

const JOIN: &str =
    "SELECT pg_advisory_lock_shared('tidings_dead_letters'::regclass::oid::int, 300000)";

const READERS: &str = "
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND objid = 300000
      AND classid = 'tidings_dead_letters'::regclass::oid
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The snapshot is taken before the table is read.
const FLOOR: &str = "
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           (SELECT min(id) FROM tidings_outbox WHERE id >= $1)";

/// The statements of a connection.
pub(super) struct Queries {
    pub(super) read: Statement,
    pub(super) delete: Statement,
    pub(super) bury: Statement,
    pub(super) forget_dead: Statement,
    pub(super) sleep: Statement,
    pub(super) wake: Statement,
    pub(super) lag: Statement,
    pub(super) take: Statement,
    pub(super) give: Statement,
    pub(super) readers: Statement,
    pub(super) floor: Statement,
}

impl Queries {
    /// Prepares a session, and joins the readers.
    pub(super) async fn prepare(client: &Client) -> Result<Self, Failure> {
        let version = client
            .query_one("SELECT current_setting('server_version_num')::int", &[])
            .await
            .map_err(failure)?;
        if version.get::<_, i32>(0) < OLDEST {
            return Err(Failure(String::from("expected PostgreSQL 14 or newer")));
        }
        client.batch_execute(SESSION).await.map_err(failure)?;
        client.query_one(JOIN, &[]).await.map_err(unmigrated)?;
        let prepare = |text: &'static str| async move { client.prepare(text).await };
        let statements = async {
            Ok(Queries {
                read: prepare(READ).await?,
                delete: prepare(DELETE).await?,
                bury: prepare(BURY).await?,
                forget_dead: prepare(FORGET_DEAD).await?,
                sleep: prepare(SLEEP).await?,
                wake: prepare(WAKE).await?,
                lag: prepare(LAG).await?,
                take: prepare(TAKE).await?,
                give: prepare(GIVE).await?,
                readers: prepare(READERS).await?,
                floor: prepare(FLOOR).await?,
            })
        };
        statements.await.map_err(unmigrated)
    }
}

/// Says what to do if the table is missing.
fn unmigrated(error: tokio_postgres::Error) -> Failure {
    let missing = error.code() == Some(&SqlState::UNDEFINED_TABLE);
    let Failure(text) = failure(error);
    if missing {
        return Failure(format!(
            "{text}: run what `tidings source sql postgres` prints"
        ));
    }
    Failure(text)
}
