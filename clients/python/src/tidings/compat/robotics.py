"""Optimisation of models: `WebSocketManager.broadcast_session_started(…)` and the others, and the catalog.

The server runs `--preset robotics`. `**more` are further fields of the payload; what is None is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..types import NewEvent
from . import client, deliver_async, fields

__all__ = [
    "WebSocketManager",
    "get_event_example",
    "get_event_schema",
    "validate_event",
    "websocket_manager",
]


class WebSocketManager:
    """The manager, of which there is one. Connections and subscriptions are the server's."""

    _only: WebSocketManager | None = None

    def __new__(cls) -> WebSocketManager:
        """The same one each time."""
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    async def broadcast_session_started(self, session_id: str, **more: Any) -> bool:
        """`session_started`: also `model_id`, `model_name`, `config`, `started_at`."""
        return await _in_session("session_started", session_id, more)

    async def broadcast_session_progress(self, session_id: str, progress: float, **more: Any) -> bool:
        """`session_progress`: also `current_step`, `message`, `estimated_remaining_seconds`."""
        return await _in_session("session_progress", session_id, {"progress": progress, **more})

    async def broadcast_session_completed(
        self, session_id: str, results: Mapping[str, Any] | None = None, **more: Any
    ) -> bool:
        """`session_completed`: also `duration_seconds`."""
        return await _in_session("session_completed", session_id, {"results": results or {}, **more})

    async def broadcast_session_failed(self, session_id: str, error_message: str, **more: Any) -> bool:
        """`session_failed`: also `error_type`, `failed_step`, `details`."""
        return await _in_session("session_failed", session_id, {"error_message": error_message, **more})

    async def broadcast_session_cancelled(self, session_id: str, **more: Any) -> bool:
        """`session_cancelled`: also `cancelled_by`, `reason`."""
        return await _in_session("session_cancelled", session_id, more)

    async def broadcast_notification(
        self, title: str, message: str, notification_type: str = "info", **more: Any
    ) -> bool:
        """`notification` (info, warning, error, success) to everyone: also `session_id`, `metadata`."""
        payload = {"notification_type": notification_type, "title": title, "message": message, **more}
        return await _publish("global", "notification", payload)

    async def broadcast_alert(self, title: str, severity: str = "medium", **more: Any) -> bool:
        """`alert` to everyone: also `description`, `source`, `session_id`."""
        return await _publish("global", "alert", {"severity": severity, "title": title, **more})

    async def broadcast_system_status(self, status: str, **more: Any) -> bool:
        """`system_status` to everyone: also `active_sessions`, `connected_clients`, `metrics`."""
        return await _publish("global", "system_status", {"status": status, **more})


websocket_manager = WebSocketManager()


def get_event_schema(event_type: str) -> dict[str, Any] | None:
    """The JSON Schema of an event type. None if the catalog has none."""
    found = client().admin.event_type(event_type)
    schema: dict[str, Any] | None = json.loads(found.schema) if found and found.schema else None
    return schema


def get_event_example(event_type: str) -> dict[str, Any] | None:
    """An example of an event type's payload. None if the catalog has none."""
    found = client().admin.event_type(event_type)
    example: dict[str, Any] | None = json.loads(found.example) if found and found.example else None
    return example


def validate_event(event_type: str, data: Mapping[str, Any]) -> bool:
    """Whether a payload would be accepted."""
    return not client().admin.validate(event_type, data)


async def _in_session(type: str, session_id: str, payload: Mapping[str, Any]) -> bool:
    return await _publish(f"session:{session_id}", type, {"session_id": session_id, **payload})


async def _publish(channel: str, type: str, payload: Mapping[str, Any]) -> bool:
    return await deliver_async(NewEvent(channel=channel, type=type, data=fields(payload)))
