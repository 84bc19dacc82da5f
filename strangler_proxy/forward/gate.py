"""The gate of a flag: where its unsafe requests wait while a cutover holds them. First in, first out, bounded."""

from __future__ import annotations

from typing import Protocol


class Waiting(Protocol):
    """A request that can wait in a gate."""

    def released(self) -> None:
        """The hold is over: decide anew and go on."""
        ...


class Gate:
    """Held requests of one flag in the order of arrival. Leaving is O(1), so that a leaving client costs nothing."""

    __slots__ = ("_waiting", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: dict[Waiting, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<Gate holding {len(self._waiting)} of {self.limit}>"

    def enter(self, request: Waiting) -> bool:
        """Wait at the end of the line; False, and not entered, where it is full."""
        if len(self._waiting) >= self.limit:
            return False
        self._waiting[request] = None
        return True

    def leave(self, request: Waiting) -> None:
        """Take a request out (its client left, or it waited too long). Harmless for one that is not in."""
        self._waiting.pop(request, None)

    def release(self) -> None:
        """Let everybody go on, in order. One that is held again by the newest table queues up anew, in order too."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for request in waiting:
            request.released()
