"""The types that back ends hold, as JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pydantic
import pytest

from tidings import encode

ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2026, 11, 21, 12, 0, 0, 5000, tzinfo=timezone.utc)


class Status(enum.Enum):
    ACTIVE = "active"


class Level(str, enum.Enum):
    HIGH = "high"


@dataclasses.dataclass
class Inner:
    at: datetime
    status: Status


class Model(pydantic.BaseModel):
    id: UUID
    inner: Inner
    note: str | None = None


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOON, "2026-11-21T12:00:00.005000Z"),
        (datetime(2026, 11, 21, tzinfo=timezone(timedelta(hours=2))), "2026-11-21T00:00:00+02:00"),
        (datetime(2026, 11, 21), "2026-11-21T00:00:00"),
        (date(2026, 11, 21), "2026-11-21"),
        (NOON.timetz(), "12:00:00.005000+00:00"),
        (timedelta(seconds=90.5), 90.5),
        (ID, str(ID)),
        (Decimal("10.50"), "10.50"),
        (Status.ACTIVE, "active"),
        (Level.HIGH, "high"),
        (Inner(NOON, Status.ACTIVE), {"at": "2026-11-21T12:00:00.005000Z", "status": "active"}),
        (PurePosixPath("/a/b"), "/a/b"),
        ({3}, [3]),
        (Pair(1, 2), [1, 2]),
        ("é\u2028", "é\u2028"),
        (None, None),
    ],
)
def test_type_is_encoded(value: Any, expected: Any) -> None:
    assert json.loads(encode({"value": [value]})) == {"value": [expected]}


def test_pydantic_model_is_encoded_at_any_depth() -> None:
    model = Model(id=ID, inner=Inner(NOON, Status.ACTIVE))
    expected = {
        "id": str(ID),
        "inner": {"at": "2026-11-21T12:00:00.005000Z", "status": "active"},
        "note": None,
    }
    assert json.loads(encode(model)) == expected
    assert json.loads(encode({"models": [model]})) == {"models": [expected]}


def test_keys_that_are_not_strings_are_encoded() -> None:
    data = {ID: {Status.ACTIVE: NOON}, 1: None, date(2026, 1, 2): [{ID: 1}]}
    assert json.loads(encode(data)) == {
        str(ID): {"active": "2026-11-21T12:00:00.005000Z"},
        "1": None,
        "2026-01-02": [{str(ID): 1}],
    }


def test_decimals_can_be_numbers() -> None:
    assert partial(encode, decimal=float)({"value": Decimal("10.5")}) == '{"value":10.5}'


def test_what_json_cannot_have_is_refused() -> None:
    for value in (b"bytes", object(), {(1, 2): 3}):
        with pytest.raises(TypeError):
            encode({"value": value})
    with pytest.raises(ValueError, match="Out of range float"):
        encode(float("nan"))
