"""examples/postgres-transaction and django-transaction: transaction.py EXAMPLE TIDINGS

What pay.py commits arrives at a subscriber, and nothing of what it rolls back.
"""

import json
import re
import sys

from support import Postgres, example, until

PAYMENTS = {
    "postgres-transaction": "SELECT order_id, amount FROM payments ORDER BY 1",
    "django-transaction": 'SELECT "order", amount FROM shop_payment ORDER BY 1',
}

name, tidings = sys.argv[1:]
with example(name, tidings) as one, Postgres(one.folder) as postgres:
    # The README's database, but on the socket of this run.
    documented = re.search(r"^url = \"(.*)\"$", one.configuration(), re.MULTILINE)[1]
    assert one.line("export DATABASE_URL") == f"export DATABASE_URL='{documented}'"
    database = {"DATABASE_URL": postgres.url}
    one.run(one.line("tidings source sql"), **database)
    with one.server(one.configuration().replace(documented, postgres.url), "--dev") as bound:
        follower = {"TIDINGS_SERVER": f"http://{bound['internal']}", "TIDINGS_TOKEN": one.token("service", "admin")}
        # All payments, and then the mark at the end.
        tail = f"{one.line('tidings tail')} --json --count 3"
        with one.running(tail, "tail.log", **follower) as following:

            def connections() -> str:
                return one.run("tidings connections --json", **follower).stdout

            until("the subscriber is there", lambda: '"order:*"' in connections())
            done = one.run(one.line("python pay.py"), **database)
            assert done.stdout.splitlines() == ["order 1 was paid", "order 3 was paid"], done
            assert done.stderr == "order 2: a payment needs an amount\n", done
            assert postgres.psql("app", PAYMENTS[name]).splitlines() == ["1|100", "3|250"]
            until("the outbox is empty", lambda: postgres.psql("app", "SELECT count(*) FROM tidings_outbox") == "0")
            # An event of order 2 that had been published would be before this one.
            postgres.psql("app", "SELECT tidings_publish('order:2', 'mark', '{}')")
            until("three events", lambda: following.poll() is not None)
        events = [json.loads(line) for line in (one.folder / "tail.log").read_text().splitlines() if line[:1] == "{"]
        seen = sorted((event["channel"], event["type"], event["offset"], json.dumps(event["data"])) for event in events)
        assert seen == [
            ("order:1", "order.paid", 1, '{"order": 1, "amount": 100}'),
            ("order:2", "mark", 1, "{}"),
            ("order:3", "order.paid", 1, '{"order": 3, "amount": 250}'),
        ], seen
print(f"{name}: ok")
