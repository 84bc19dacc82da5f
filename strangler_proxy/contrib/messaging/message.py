"""A business message: what happened, once, said to whom it concerns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class UnreadableMessage(ValueError):
    """A body that is not a message: it is parked, not retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """`event` is also its routing key; `data` is a JSON object; `context` are the headers of who caused it."""

    id: UUID
    event: str
    occurred_at: datetime
    data: dict[str, Any]
    context: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> str:
        """The body on the wire: `id`, `event`, `occurred_at` (UTC, microseconds, `Z`), `data`."""
        occurred_at = self.occurred_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {"id": str(self.id), "event": self.event, "occurred_at": occurred_at, "data": self.data}
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def parse(cls, body: str | bytes, context: Mapping[str, str] | None = None) -> Message:
        """Read a body. Raises UnreadableMessage, which says what is wrong.

        >>> Message.parse('{"id": "7"}')
        Traceback (most recent call last):
        ...
        strangler_proxy.contrib.messaging.message.UnreadableMessage: not a message: 'event'
        """
        try:
            fields = json.loads(body)
            event, occurred_at, data = fields["event"], fields["occurred_at"], fields["data"]
            if not isinstance(event, str) or not isinstance(data, dict):
                raise TypeError("event is not a text or data not an object")
            return cls(
                id=UUID(fields["id"]),
                event=event,
                occurred_at=datetime.fromisoformat(occurred_at),
                data=data,
                context=dict(context or {}),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UnreadableMessage(f"not a message: {error}") from error
