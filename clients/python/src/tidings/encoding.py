"""Encodes payloads as JSON: what the standard library encodes, and the types that back ends hold."""

from __future__ import annotations

import dataclasses
import json
import numbers
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Union
from uuid import UUID

Encode = Callable[[Any], Union[str, bytes]]
"""Encodes a payload as JSON."""


def encode(data: Any, *, decimal: Callable[[Decimal], Any] = str) -> str:
    """Encodes a payload as JSON (RFC 8259, so NaN and Infinity raise `ValueError`).

    | type | JSON |
    |---|---|
    | `datetime`, `date`, `time` | string, ISO 8601; UTC as `Z`; without a time zone if it has none |
    | `timedelta` | number of seconds |
    | `UUID`, `PurePath` | string |
    | `Decimal` | string, which keeps all digits; `decimal=float` makes it a number |
    | `Enum` | its value |
    | dataclasses, Pydantic models (1 and 2), `attrs` classes | object |
    | sets, tuples, other iterables | array |
    | NumPy numbers and arrays | number, array |

    Keys of mappings may be strings, numbers, `Enum`, `UUID` or dates. Anything else raises `TypeError`.
    """

    def default(value: Any) -> Any:
        return _plain(value, decimal)

    try:
        return _dumps(data, default)
    except TypeError:
        # Keys are not passed to `default`. They are rarely anything but strings, so only now.
        return _dumps(_with_keys(data, default), default)


def _dumps(data: Any, default: Callable[[Any], Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=default)


def _plain(value: Any, decimal: Callable[[Decimal], Any]) -> Any:
    """What stands for a value that the standard library cannot encode."""
    if isinstance(value, datetime):
        text = value.isoformat()
        return text[:-6] + "Z" if text.endswith("+00:00") else text
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (UUID, PurePath)):
        return str(value)
    if isinstance(value, Decimal):
        return decimal(value)
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, type):
        model = _model(value)
        if model is not None:
            return model
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    raise TypeError(
        f"{type(value).__name__} has no form in JSON; pass bytes with a content_type, or `encode`"
    )


def _model(value: Any) -> Any | None:
    """The fields of a Pydantic model or an `attrs` class. None for anything else."""
    for method in ("model_dump", "dict"):
        dump = getattr(value, method, None)
        # Pydantic 1 has `dict`, and so may others: its models also have `__fields__`.
        if callable(dump) and (method == "model_dump" or hasattr(value, "__fields__")):
            return dump()
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if attributes is not None:
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    return None


def _with_keys(data: Any, default: Callable[[Any], Any]) -> Any:
    """The same data with keys that JSON can have."""
    if isinstance(data, Mapping):
        return {_key(key, default): _with_keys(value, default) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_with_keys(value, default) for value in data]
    if data is None or isinstance(data, (str, int, float)):
        return data
    return _with_keys(default(data), default)


def _key(key: Any, default: Callable[[Any], Any]) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    plain = default(key)
    if not isinstance(plain, (str, int, float)):
        raise TypeError(f"{type(key).__name__} cannot be a key in JSON")
    return plain
