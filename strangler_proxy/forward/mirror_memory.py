"""What copies take, all together: the bytes that they hold, and how many wait."""

from __future__ import annotations


class Memory:
    """A budget of bytes. What is taken is released once. `waiting`: errands in queues.

    >>> memory = Memory(10)
    >>> memory.take(8), memory.take(8), memory.held
    (True, False, 8)
    """

    __slots__ = ("held", "limit", "peak", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.peak = 0
        self.waiting = 0

    def take(self, size: int) -> bool:
        """Is there room? Then it is held."""
        held = self.held + size
        if held > self.limit:
            return False
        self.held = held
        if held > self.peak:
            self.peak = held
        return True

    def release(self, size: int) -> None:
        """Give it back."""
        self.held -= size
