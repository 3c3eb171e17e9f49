"""Pays orders, and publishes each payment in the transaction that records it.

    python pay.py

README.md says what must run before.
"""

import json
import os
import sys

import psycopg


def pay(connection: psycopg.Connection, order: int, amount: int) -> None:
    """Records a payment. Subscribers hear of it if, and only if, it is committed."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO payments (order_id, amount) VALUES (%s, %s)", (order, amount)
        )
        connection.execute(
            "SELECT tidings_publish(%s, %s, %s)",
            (f"order:{order}", "order.paid", json.dumps({"order": order, "amount": amount})),
        )
        if amount <= 0:
            # The exception rolls back the payment and its event.
            raise ValueError("a payment needs an amount")


def main() -> None:
    url = os.environ.get("DATABASE_URL", "postgresql:///app")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS payments (order_id int NOT NULL, amount int NOT NULL)"
        )
        for order, amount in ((1, 100), (2, 0), (3, 250)):
            try:
                pay(connection, order, amount)
                print(f"order {order} was paid")
            except ValueError as problem:
                print(f"order {order}: {problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
