"""Statistical process control: `notify_sample`, `notify_violation`, `notify_acknowledgment`.

The server runs `--preset spc`. A `Decimal` as `value` is sent as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Union

from ..types import NewEvent
from . import deliver_async, fields

__all__ = [
    "ConnectionManager",
    "notify_acknowledgment",
    "notify_sample",
    "notify_violation",
    "ws_manager",
]

Number = Union[int, float, Decimal]


async def notify_sample(
    char_id: int,
    sample_id: int,
    timestamp: datetime | str,
    value: Number,
    zone: str,
    in_control: bool,
    **more: Any,
) -> bool:
    """`sample` to those who watch the characteristic."""
    payload = {
        "sample_id": sample_id,
        "characteristic_id": char_id,
        "timestamp": timestamp,
        "value": float(value) if isinstance(value, Decimal) else value,
        "zone": zone,
        "in_control": in_control,
        **more,
    }
    return await _publish(f"characteristic:{char_id}", "sample", payload)


async def notify_violation(
    char_id: int,
    violation_id: int,
    sample_id: int,
    rule_id: int,
    rule_name: str,
    severity: str,
    **more: Any,
) -> bool:
    """`violation` to those who watch the characteristic."""
    payload = {
        "violation_id": violation_id,
        "characteristic_id": char_id,
        "sample_id": sample_id,
        "rule_id": rule_id,
        "rule_name": rule_name,
        "severity": severity,
        **more,
    }
    return await _publish(f"characteristic:{char_id}", "violation", payload)


async def notify_acknowledgment(
    char_id: int,
    violation_id: int,
    acknowledged: bool = True,
    ack_user: str | None = None,
    ack_reason: str | None = None,
    **more: Any,
) -> bool:
    """`ack_update` to those who watch the characteristic."""
    payload = {
        "violation_id": violation_id,
        "characteristic_id": char_id,
        "acknowledged": acknowledged,
        "ack_user": ack_user,
        "ack_reason": ack_reason,
        **more,
    }
    return await _publish(f"characteristic:{char_id}", "ack_update", payload)


class ConnectionManager:
    """The manager. Connections, subscriptions and heartbeats are the server's."""

    async def start(self) -> None:
        """Does nothing: the server runs by itself."""

    async def stop(self) -> None:
        """Does nothing."""

    async def broadcast_to_characteristic(self, char_id: int, message: Mapping[str, Any]) -> bool:
        """A message `{"type", "payload"}` to those who watch the characteristic."""
        return await _publish(f"characteristic:{char_id}", message["type"], message.get("payload", {}))

    async def broadcast_to_all(self, message: Mapping[str, Any]) -> bool:
        """A message `{"type", "payload"}` to everyone."""
        return await _publish("global", message["type"], message.get("payload", {}))


ws_manager = ConnectionManager()


async def _publish(channel: str, type: str, payload: Mapping[str, Any]) -> bool:
    return await deliver_async(NewEvent(channel=channel, type=type, data=fields(payload)))
