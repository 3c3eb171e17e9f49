"""Processing automation: `WebSocketManager`, its `broadcast` and `send_to_user`, and the event handlers.

The server runs `--preset football`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Union

from ..types import Audience, NewEvent
from . import deliver_async, only_for

__all__ = ["WebSocketEventType", "WebSocketManager", "websocket_manager"]


class WebSocketEventType(str, Enum):
    """The event types."""

    CONNECTION_ESTABLISHED = "connection_established"
    CONNECTION_CLOSED = "connection_closed"
    HEARTBEAT = "heartbeat"
    HEARTBEAT_RESPONSE = "heartbeat_response"
    PROCESSING_STARTED = "processing_started"
    PROCESSING_PROGRESS = "processing_progress"
    PROCESSING_COMPLETED = "processing_completed"
    PROCESSING_FAILED = "processing_failed"
    FILE_DETECTED = "file_detected"
    FILE_UPLOADED = "file_uploaded"
    DOWNLOAD_COMPLETED = "download_completed"
    SYSTEM_STATUS_UPDATE = "system_status_update"
    SYSTEM_ERROR = "system_error"
    SYSTEM_ALERT = "system_alert"
    CONFIG_UPDATED = "config_updated"
    QUEUE_STATUS_UPDATE = "queue_status_update"
    JOB_QUEUED = "job_queued"
    JOB_CANCELLED = "job_cancelled"
    USER_NOTIFICATION = "user_notification"


EventType = Union[str, WebSocketEventType]


class WebSocketManager:
    """The manager. Connections, heartbeats and subscriptions are the server's."""

    async def broadcast(
        self,
        event_type: EventType,
        data: Mapping[str, Any] | None = None,
        *,
        required_roles: Iterable[str] | None = None,
        target_users: Iterable[str] | None = None,
    ) -> bool:
        """To everyone, to holders of one of some roles, or to some users."""
        audience = only_for(users=_names(target_users), roles=_names(required_roles))
        return await _publish("global", event_type, data, audience)

    async def send_to_user(
        self, user_id: str, event_type: EventType, data: Mapping[str, Any] | None = None
    ) -> bool:
        """To one user. A `user_notification` waits a day for a user who is away."""
        if _name(event_type) == WebSocketEventType.USER_NOTIFICATION.value:
            return await _publish(f"user:{user_id}", event_type, data, None)
        return await _publish(None, event_type, data, Audience(users=(str(user_id),)))

    async def send_to_role(
        self, role: str, event_type: EventType, data: Mapping[str, Any] | None = None
    ) -> bool:
        """To the holders of a role."""
        return await self.broadcast(event_type, data, required_roles=[role])

    async def handle_processing_progress(self, data: Mapping[str, Any]) -> bool:
        """`processing_progress` to everyone."""
        return await self.broadcast(WebSocketEventType.PROCESSING_PROGRESS, data)

    async def handle_processing_completed(self, data: Mapping[str, Any]) -> bool:
        """`processing_completed` to everyone."""
        return await self.broadcast(WebSocketEventType.PROCESSING_COMPLETED, data)

    async def handle_system_error(self, data: Mapping[str, Any]) -> bool:
        """`system_error` to everyone."""
        return await self.broadcast(WebSocketEventType.SYSTEM_ERROR, data)

    async def handle_file_detected(self, data: Mapping[str, Any]) -> bool:
        """`file_detected` to everyone."""
        return await self.broadcast(WebSocketEventType.FILE_DETECTED, data)

    async def handle_download_completed(self, data: Mapping[str, Any]) -> bool:
        """`download_completed` to everyone."""
        return await self.broadcast(WebSocketEventType.DOWNLOAD_COMPLETED, data)

    async def handle_job_queued(self, data: Mapping[str, Any]) -> bool:
        """`job_queued` to everyone."""
        return await self.broadcast(WebSocketEventType.JOB_QUEUED, data)


websocket_manager = WebSocketManager()
handle_processing_progress = websocket_manager.handle_processing_progress
handle_processing_completed = websocket_manager.handle_processing_completed
handle_system_error = websocket_manager.handle_system_error
handle_file_detected = websocket_manager.handle_file_detected
handle_download_completed = websocket_manager.handle_download_completed
handle_job_queued = websocket_manager.handle_job_queued


async def _publish(
    channel: str | None, event_type: EventType, data: Mapping[str, Any] | None, audience: Audience | None
) -> bool:
    return await deliver_async(
        NewEvent(channel=channel, type=_name(event_type), data=data or {}, audience=audience)
    )


def _name(event_type: EventType) -> str:
    return event_type.value if isinstance(event_type, WebSocketEventType) else event_type


def _names(given: Iterable[str] | None) -> list[str] | None:
    return [str(name) for name in given] if given else None
