"""Photo processing: `broadcast_photo_imported(…)` and the others, which are synchronous.

The server runs `--preset photo`. `**more` are further fields of the event; what is None is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types import NewEvent
from . import deliver, fields

__all__ = ["EventType", "broadcast_event"]


class EventType:
    """The event types."""

    JOB_CREATED = "job_created"
    JOB_STARTED = "job_started"
    JOB_PROGRESS = "job_progress"
    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    PHOTO_IMPORTED = "photo_imported"
    PHOTO_ANALYZED = "photo_analyzed"
    PHOTO_SELECTED = "photo_selected"
    PHOTO_APPROVED = "photo_approved"
    PHOTO_REJECTED = "photo_rejected"
    SESSION_CREATED = "session_created"
    SESSION_UPDATED = "session_updated"
    SESSION_COMPLETED = "session_completed"
    SYSTEM_STATUS = "system_status"
    RESOURCE_WARNING = "resource_warning"
    ERROR_OCCURRED = "error_occurred"
    QUEUE_STATUS = "queue_status"
    PRIORITY_CHANGED = "priority_changed"
    APPROVAL_REQUESTED = "approval_requested"
    APPROVAL_DECIDED = "approval_decided"
    APPROVAL_QUEUE_UPDATED = "approval_queue_updated"
    EXPORT_STARTED = "export_started"
    EXPORT_PROGRESS = "export_progress"
    EXPORT_COMPLETED = "export_completed"
    EXPORT_FAILED = "export_failed"


# The channel of each event type.
_CHANNELS = {
    EventType.JOB_CREATED: "jobs",
    EventType.JOB_STARTED: "jobs",
    EventType.JOB_PROGRESS: "jobs",
    EventType.JOB_COMPLETED: "jobs",
    EventType.JOB_FAILED: "jobs",
    EventType.PHOTO_IMPORTED: "photos",
    EventType.PHOTO_ANALYZED: "photos",
    EventType.PHOTO_SELECTED: "photos",
    EventType.PHOTO_APPROVED: "photos",
    EventType.PHOTO_REJECTED: "photos",
    EventType.SESSION_CREATED: "sessions",
    EventType.SESSION_UPDATED: "sessions",
    EventType.SESSION_COMPLETED: "sessions",
    EventType.SYSTEM_STATUS: "system",
    EventType.RESOURCE_WARNING: "system",
    EventType.ERROR_OCCURRED: "system",
    EventType.QUEUE_STATUS: "queue",
    EventType.PRIORITY_CHANGED: "queue",
    EventType.APPROVAL_REQUESTED: "approval",
    EventType.APPROVAL_DECIDED: "approval",
    EventType.APPROVAL_QUEUE_UPDATED: "approval",
    EventType.EXPORT_STARTED: "export",
    EventType.EXPORT_PROGRESS: "export",
    EventType.EXPORT_COMPLETED: "export",
    EventType.EXPORT_FAILED: "export",
}


def broadcast_event(event_type: str, data: Mapping[str, Any], channel: str | None = None) -> bool:
    """An event to its channel, or to another. Unknown types go to everyone."""
    to = channel or _CHANNELS.get(event_type, "global")
    return deliver(NewEvent(channel=to, type=event_type, data=fields(data)))


def broadcast_job_created(job_id: Any, **more: Any) -> bool:
    """`job_created` in `jobs`: also `photo_id`, `session_id`, `job_type`, `priority`."""
    payload = {"job_id": job_id, **more}
    return broadcast_event(EventType.JOB_CREATED, payload)


def broadcast_job_started(job_id: Any, **more: Any) -> bool:
    """`job_started` in `jobs`: also `photo_id`, `stage`."""
    payload = {"job_id": job_id, **more}
    return broadcast_event(EventType.JOB_STARTED, payload)


def broadcast_job_progress(job_id: Any, progress: float, **more: Any) -> bool:
    """`job_progress` in `jobs`: also `photo_id`, `stage`, `message`."""
    payload = {"job_id": job_id, "progress": progress, **more}
    return broadcast_event(EventType.JOB_PROGRESS, payload)


def broadcast_job_completed(job_id: Any, **more: Any) -> bool:
    """`job_completed` in `jobs`: also `photo_id`, `result`, `duration_seconds`."""
    payload = {"job_id": job_id, **more}
    return broadcast_event(EventType.JOB_COMPLETED, payload)


def broadcast_job_failed(job_id: Any, error: str, **more: Any) -> bool:
    """`job_failed` in `jobs`: also `photo_id`, `retry_count`."""
    payload = {"job_id": job_id, "error": error, **more}
    return broadcast_event(EventType.JOB_FAILED, payload)


def broadcast_photo_imported(photo_id: Any, **more: Any) -> bool:
    """`photo_imported` in `photos`: also `session_id`, `file_name`, `file_path`."""
    payload = {"photo_id": photo_id, **more}
    return broadcast_event(EventType.PHOTO_IMPORTED, payload)


def broadcast_photo_analyzed(photo_id: Any, **more: Any) -> bool:
    """`photo_analyzed` in `photos`: also `session_id`, `score`, `tags`."""
    payload = {"photo_id": photo_id, **more}
    return broadcast_event(EventType.PHOTO_ANALYZED, payload)


def broadcast_photo_selected(photo_id: Any, **more: Any) -> bool:
    """`photo_selected` in `photos`: also `session_id`, `score`."""
    payload = {"photo_id": photo_id, **more}
    return broadcast_event(EventType.PHOTO_SELECTED, payload)


def broadcast_photo_approved(photo_id: Any, **more: Any) -> bool:
    """`photo_approved` in `photos`: also `session_id`, `approved_by`."""
    payload = {"photo_id": photo_id, **more}
    return broadcast_event(EventType.PHOTO_APPROVED, payload)


def broadcast_photo_rejected(photo_id: Any, **more: Any) -> bool:
    """`photo_rejected` in `photos`: also `session_id`, `reason`, `rejected_by`."""
    payload = {"photo_id": photo_id, **more}
    return broadcast_event(EventType.PHOTO_REJECTED, payload)


def broadcast_session_created(session_id: Any, **more: Any) -> bool:
    """`session_created` in `sessions`: also `name`, `total_photos`."""
    payload = {"session_id": session_id, **more}
    return broadcast_event(EventType.SESSION_CREATED, payload)


def broadcast_session_updated(session_id: Any, **more: Any) -> bool:
    """`session_updated` in `sessions`: also `status`, `processed_photos`, `progress_percent`."""
    payload = {"session_id": session_id, **more}
    return broadcast_event(EventType.SESSION_UPDATED, payload)


def broadcast_session_completed(session_id: Any, **more: Any) -> bool:
    """`session_completed` in `sessions`: also `total_photos`, `approved_photos`, `duration_seconds`."""
    payload = {"session_id": session_id, **more}
    return broadcast_event(EventType.SESSION_COMPLETED, payload)


def broadcast_system_status(status: str, **more: Any) -> bool:
    """`system_status` in `system`: also `batch_id`, `message`, `details`."""
    payload = {"status": status, **more}
    return broadcast_event(EventType.SYSTEM_STATUS, payload)


def broadcast_resource_warning(resource: str, **more: Any) -> bool:
    """`resource_warning` in `system`: also `usage_percent`, `threshold_percent`, `message`."""
    payload = {"resource": resource, **more}
    return broadcast_event(EventType.RESOURCE_WARNING, payload)


def broadcast_error_occurred(message: str, **more: Any) -> bool:
    """`error_occurred` in `system`: also `error_type`, `job_id`, `photo_id`."""
    payload = {"message": message, **more}
    return broadcast_event(EventType.ERROR_OCCURRED, payload)


def broadcast_queue_status(pending: int, **more: Any) -> bool:
    """`queue_status` in `queue`: also `processing`, `completed`, `failed`."""
    payload = {"pending": pending, **more}
    return broadcast_event(EventType.QUEUE_STATUS, payload)


def broadcast_priority_changed(job_id: Any, priority: int, **more: Any) -> bool:
    """`priority_changed` in `queue`: also `old_priority`."""
    payload = {"job_id": job_id, "priority": priority, **more}
    return broadcast_event(EventType.PRIORITY_CHANGED, payload)


def broadcast_approval_requested(photo_id: Any, **more: Any) -> bool:
    """`approval_requested` in `approval`: also `session_id`, `job_id`, `preview_path`."""
    payload = {"photo_id": photo_id, **more}
    return broadcast_event(EventType.APPROVAL_REQUESTED, payload)


def broadcast_approval_decided(photo_id: Any, decision: str, **more: Any) -> bool:
    """`approval_decided` in `approval`: also `session_id`, `decided_by`, `comment`."""
    payload = {"photo_id": photo_id, "decision": decision, **more}
    return broadcast_event(EventType.APPROVAL_DECIDED, payload)


def broadcast_approval_queue_updated(pending: int, **more: Any) -> bool:
    """`approval_queue_updated` in `approval`: also `session_id`."""
    payload = {"pending": pending, **more}
    return broadcast_event(EventType.APPROVAL_QUEUE_UPDATED, payload)


def broadcast_export_started(export_id: Any, **more: Any) -> bool:
    """`export_started` in `export`: also `session_id`, `preset`, `total_photos`."""
    payload = {"export_id": export_id, **more}
    return broadcast_event(EventType.EXPORT_STARTED, payload)


def broadcast_export_progress(export_id: Any, progress: float, **more: Any) -> bool:
    """`export_progress` in `export`: also `photo_id`, `exported_photos`, `total_photos`."""
    payload = {"export_id": export_id, "progress": progress, **more}
    return broadcast_event(EventType.EXPORT_PROGRESS, payload)


def broadcast_export_completed(export_id: Any, **more: Any) -> bool:
    """`export_completed` in `export`: also `session_id`, `destination`, `exported_photos`."""
    payload = {"export_id": export_id, **more}
    return broadcast_event(EventType.EXPORT_COMPLETED, payload)


def broadcast_export_failed(export_id: Any, error: str, **more: Any) -> bool:
    """`export_failed` in `export`: also `photo_id`."""
    payload = {"export_id": export_id, "error": error, **more}
    return broadcast_event(EventType.EXPORT_FAILED, payload)
