"""A platform for developers: `get_broadcaster().broadcast_project_updated(…)` and the others.

The server runs `--preset devplatform`. Ids may be UUIDs or strings. Fields that are None are left out, and
`**more` are further fields of the payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Union
from uuid import UUID

from ..types import NewEvent
from . import deliver_async, fields

__all__ = ["EventBroadcaster", "broadcaster", "get_broadcaster"]

Id = Union[UUID, str]


class EventBroadcaster:
    """One method for each event type."""

    async def broadcast_project_updated(
        self,
        project_id: Id,
        project_name: str,
        repository_url: str | None = None,
        status: str = "active",
        updated_by: Id | None = None,
        changes: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> bool:
        """`project.updated` to the project's members."""
        payload = {
            "project_id": project_id,
            "project_name": project_name,
            "repository_url": repository_url,
            "status": status,
            "updated_by": updated_by,
            "changes": changes or {},
            **more,
        }
        return await _publish(f"project:{project_id}", "project.updated", payload)

    async def broadcast_project_deleted(
        self, project_id: Id, project_name: str | None = None, deleted_by: Id | None = None, **more: Any
    ) -> bool:
        """`project.deleted` to the project's members."""
        payload = {
            "project_id": project_id,
            "project_name": project_name,
            "deleted_by": deleted_by,
            **more,
        }
        return await _publish(f"project:{project_id}", "project.deleted", payload)

    async def broadcast_agent_status_changed(
        self,
        agent_id: Id,
        agent_name: str | None = None,
        status: str = "idle",
        previous_status: str | None = None,
        current_task: Any = None,
        **more: Any,
    ) -> bool:
        """`agent.status_changed` to those who may watch the agent."""
        payload = {
            "agent_id": agent_id,
            "agent_name": agent_name,
            "status": status,
            "previous_status": previous_status,
            "current_task": current_task,
            **more,
        }
        return await _publish(f"agent:{agent_id}", "agent.status_changed", payload)

    async def broadcast_agent_connected(
        self,
        agent_id: Id,
        agent_name: str | None = None,
        capabilities: Sequence[str] | None = None,
        **more: Any,
    ) -> bool:
        """`agent.connected` to those who may watch the agent."""
        payload = {"agent_id": agent_id, "agent_name": agent_name, "capabilities": capabilities, **more}
        return await _publish(f"agent:{agent_id}", "agent.connected", payload)

    async def broadcast_agent_disconnected(
        self, agent_id: Id, agent_name: str | None = None, reason: str | None = None, **more: Any
    ) -> bool:
        """`agent.disconnected` to those who may watch the agent."""
        payload = {"agent_id": agent_id, "agent_name": agent_name, "reason": reason, **more}
        return await _publish(f"agent:{agent_id}", "agent.disconnected", payload)

    async def broadcast_workflow_started(self, workflow_id: Id, project_id: Id, **more: Any) -> bool:
        """`workflow.started` to the project's members."""
        return await self._workflow(
            "workflow.started", workflow_id, project_id, {"status": "running", **more}
        )

    async def broadcast_workflow_progress(
        self,
        workflow_id: Id,
        project_id: Id,
        status: str = "running",
        progress: float = 0,
        current_step: str | None = None,
        message: str | None = None,
        **more: Any,
    ) -> bool:
        """`workflow.progress` to the project's members."""
        payload = {
            "status": status,
            "progress": progress,
            "current_step": current_step,
            "message": message,
            **more,
        }
        return await self._workflow("workflow.progress", workflow_id, project_id, payload)

    async def broadcast_workflow_completed(self, workflow_id: Id, project_id: Id, **more: Any) -> bool:
        """`workflow.completed` to the project's members."""
        payload = {"status": "completed", **more}
        return await self._workflow("workflow.completed", workflow_id, project_id, payload)

    async def broadcast_workflow_failed(
        self, workflow_id: Id, project_id: Id, error: str, **more: Any
    ) -> bool:
        """`workflow.failed` to the project's members."""
        payload = {"status": "failed", "error": error, **more}
        return await self._workflow("workflow.failed", workflow_id, project_id, payload)

    async def broadcast_pr_created(self, project_id: Id, pr_number: int, title: str, **more: Any) -> bool:
        """`pr.created` to the project's members: also `author`, `url`, `branch`."""
        payload = {"project_id": project_id, "pr_number": pr_number, "title": title, **more}
        return await _publish(f"project:{project_id}", "pr.created", payload)

    async def broadcast_pr_updated(self, project_id: Id, pr_number: int, **more: Any) -> bool:
        """`pr.updated` to the project's members: also `title`, `status`, `changes`."""
        payload = {"project_id": project_id, "pr_number": pr_number, **more}
        return await _publish(f"project:{project_id}", "pr.updated", payload)

    async def broadcast_pr_closed(
        self, project_id: Id, pr_number: int, merged: bool = False, **more: Any
    ) -> bool:
        """`pr.closed` to the project's members: also `closed_by`."""
        payload = {"project_id": project_id, "pr_number": pr_number, "merged": merged, **more}
        return await _publish(f"project:{project_id}", "pr.closed", payload)

    async def broadcast_issue_created(
        self, project_id: Id, issue_number: int, title: str, **more: Any
    ) -> bool:
        """`issue.created` to the project's members: also `author`, `labels`, `url`."""
        payload = {"project_id": project_id, "issue_number": issue_number, "title": title, **more}
        return await _publish(f"project:{project_id}", "issue.created", payload)

    async def broadcast_issue_updated(self, project_id: Id, issue_number: int, **more: Any) -> bool:
        """`issue.updated` to the project's members: also `title`, `status`, `changes`."""
        payload = {"project_id": project_id, "issue_number": issue_number, **more}
        return await _publish(f"project:{project_id}", "issue.updated", payload)

    async def broadcast_issue_closed(self, project_id: Id, issue_number: int, **more: Any) -> bool:
        """`issue.closed` to the project's members: also `closed_by`, `reason`."""
        payload = {"project_id": project_id, "issue_number": issue_number, **more}
        return await _publish(f"project:{project_id}", "issue.closed", payload)

    async def broadcast_ai_suggestion(
        self, suggestion: Any, *, project_id: Id | None = None, user_id: Id | None = None, **more: Any
    ) -> bool:
        """`ai.suggestion` to a user if `user_id` is given, else to a project's members, else to everyone."""
        payload = {"suggestion": suggestion, "project_id": project_id, **more}
        return await _publish(_room(project_id, user_id), "ai.suggestion", payload)

    async def broadcast_ai_analysis_complete(
        self, analysis_id: Id, *, project_id: Id | None = None, user_id: Id | None = None, **more: Any
    ) -> bool:
        """`ai.analysis_complete`, to whom `ai.suggestion` goes."""
        payload = {"analysis_id": analysis_id, "project_id": project_id, **more}
        return await _publish(_room(project_id, user_id), "ai.analysis_complete", payload)

    async def _workflow(self, type: str, workflow_id: Id, project_id: Id, payload: Mapping[str, Any]) -> bool:
        payload = {"workflow_id": workflow_id, "project_id": project_id, **payload}
        return await _publish(f"project:{project_id}", type, payload)


broadcaster = EventBroadcaster()


def get_broadcaster() -> EventBroadcaster:
    """The broadcaster."""
    return broadcaster


def _room(project_id: Id | None, user_id: Id | None) -> str:
    if user_id is not None:
        return f"user:{user_id}"
    return f"project:{project_id}" if project_id is not None else "global"


async def _publish(channel: str, type: str, payload: Mapping[str, Any]) -> bool:
    return await deliver_async(NewEvent(channel=channel, type=type, data=fields(payload)))
