-- Tidings: events that are published by your own transactions (PostgreSQL 14 or newer).
--
-- Call tidings_publish() in the transaction that changes the data. If it commits, subscribers get the
-- event; if it rolls back, nobody does. Run this file once, as the owner of the schema. The
-- application needs EXECUTE on the function and INSERT on the table; the role of Tidings needs
-- SELECT and DELETE on tidings_outbox, and SELECT, INSERT and DELETE on tidings_dead_letters.

CREATE TABLE IF NOT EXISTS tidings_outbox (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  bucket          int NOT NULL,
  channel         text NOT NULL,
  type            text NOT NULL,
  data            jsonb NOT NULL,
  idempotency_key text,
  headers         jsonb,
  created_at      timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
  -- Rows live for milliseconds: dead ones are cleared by their number, not by the table's size.
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0
);

-- Rows that can't be published, with the reason. Tidings keeps the newest 10,000.
CREATE TABLE IF NOT EXISTS tidings_dead_letters (
  number          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id              bigint NOT NULL,
  channel         text NOT NULL,
  type            text NOT NULL,
  data            jsonb NOT NULL,
  idempotency_key text,
  headers         jsonb,
  created_at      timestamptz NOT NULL,
  reason          text NOT NULL,
  died_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Publishes an event when the calling transaction commits. Returns the row's id.
--
-- channel, type: as in any publish. data: the payload. idempotency_key: a second event with the same
-- key in the channel is dropped for five minutes. headers: an object of texts; a "traceparent" in it
-- continues the caller's trace.
--
-- The advisory lock makes the order of a channel's ids the order of its commits: from the call to the
-- end of its transaction, no other transaction publishes to the channel. So call this late in a
-- transaction, and call it for several channels in one fixed order, or two transactions may wait for
-- each other (PostgreSQL then ends one of them: deadlock detected). Each channel of a transaction
-- takes a lock: for thousands, raise max_locks_per_transaction or use several transactions.
CREATE OR REPLACE FUNCTION tidings_publish(
  channel text, type text, data jsonb, idempotency_key text DEFAULT NULL, headers jsonb DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $function$
DECLARE
  slot   CONSTANT int := hashtext(channel);
  row_id bigint;
BEGIN
  PERFORM pg_advisory_xact_lock('tidings_outbox'::regclass::oid::int, slot);
  -- The transaction must have its id before the row has its own: readers rely on it to know which
  -- rows can still appear.
  PERFORM pg_current_xact_id();
  INSERT INTO tidings_outbox AS o (bucket, channel, type, data, idempotency_key, headers)
  VALUES (slot & 15, tidings_publish.channel, tidings_publish.type, tidings_publish.data,
          tidings_publish.idempotency_key, tidings_publish.headers)
  RETURNING o.id INTO row_id;
  -- A reader that sleeps holds this lock exclusively, and only then it needs a notification, which
  -- would make commits wait for each other. A reader can't fall asleep before this transaction ends.
  IF NOT pg_try_advisory_xact_lock_shared(
    'tidings_dead_letters'::regclass::oid::int, 200000 + (slot & 15)
  ) THEN
    PERFORM pg_notify('tidings_outbox', (slot & 15)::text);
  END IF;
  RETURN row_id;
END $function$;
