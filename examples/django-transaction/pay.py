"""Pays orders with Django, and publishes each payment in the transaction that records it.

    python pay.py

README.md says what must run before. A project has its settings, models and migrations in files of
their own; `publish` and `pay` stay as they are.
"""

import json
import os
import sys
from typing import Any

import django
from django.conf import settings
from django.db import connection, models, transaction
from psycopg.conninfo import conninfo_to_dict

parameters = conninfo_to_dict(os.environ.get("DATABASE_URL", "postgresql:///app"))
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parameters.pop("dbname"),
            "OPTIONS": parameters,
        }
    }
)
django.setup()


class Payment(models.Model):
    order = models.IntegerField()
    amount = models.IntegerField()

    class Meta:
        app_label = "shop"


def publish(channel: str, event_type: str, data: Any) -> None:
    """Publishes an event if, and only if, the present transaction is committed."""
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("publish in transaction.atomic()")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tidings_publish(%s, %s, %s)", (channel, event_type, json.dumps(data))
        )


@transaction.atomic
def pay(order: int, amount: int) -> None:
    """Records a payment. Subscribers hear of it if, and only if, it is committed."""
    Payment.objects.create(order=order, amount=amount)
    publish(f"order:{order}", "order.paid", {"order": order, "amount": amount})
    if amount <= 0:
        # The exception rolls back the payment and its event.
        raise ValueError("a payment needs an amount")


def main() -> None:
    if Payment._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Payment)
    for order, amount in ((1, 100), (2, 0), (3, 250)):
        try:
            pay(order, amount)
            print(f"order {order} was paid")
        except ValueError as problem:
            print(f"order {order}: {problem}", file=sys.stderr)


if __name__ == "__main__":
    main()
