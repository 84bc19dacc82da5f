"""Where a request is in its life."""

from __future__ import annotations

import enum


class Phase(enum.Enum):
    """From the head read to the answer ended. `HELD` is also the wait between tries while both sides are fenced."""

    NEW = "new"
    HELD = "held"
    CONNECTING = "connecting"
    SENT = "sent"
    ANSWERING = "answering"
    DONE = "done"


NEW, HELD, CONNECTING, SENT, ANSWERING, DONE = Phase
"""The members as plain names: reaching them through the class costs more than a function call."""
