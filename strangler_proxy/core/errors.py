"""What can go wrong, as a tree of classes that a caller can tell apart.

    StranglerError
    |- DeclarationError          a file or row says something impossible (carries every problem found)
    |- FlipRefused               the verb may not do that now; `next_command` says what to do
    |  |- UnknownName            no such flag, route, cluster or stage
    |  |- BadWeight              a weight outside 0..10000, or for a stage that has none
    |  |- StageSkipped           forward moves go one stage at a time
    |  |- GateRefused            a condition is not met (exit code 3)
    |  `- RevisionMoved          somebody else changed it first (exit code 4)
    |- StoreUnavailable          the control database does not answer
    |- ControlUnreachable        the control plane does not answer (exit code 6)
    |- NotAcknowledged           the change stands, a live proxy has not taken it (exit code 5)
    |- MalformedFields          a message's fields could be read in two ways
    `- MalformedTarget           a request target that an intermediary must refuse (status inside)

Messages say what failed, the value, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class StranglerError(Exception):
    """Root of all errors that the toolkit raises on purpose.

    `exit_code` is what a command ends with: 1 error, 2 usage, 3 gate refused, 4 stale, 5 timeout, 6 unreachable.
    """

    exit_code = 1

    def __init__(self, message: str, *, next_command: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_command = next_command


class DeclarationError(StranglerError):
    """A declaration that cannot be compiled. `problems` holds every one found, each a sentence with its place."""

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FlipRefused(StranglerError):
    """The verb may not do that now, and nothing was changed."""


class UnknownName(FlipRefused):
    """No flag, route, cluster or stage has this name."""

    exit_code = 2


class BadWeight(FlipRefused):
    """A weight outside 0 % .. 100 %, or one for a stage that has none."""

    exit_code = 2


class StageSkipped(FlipRefused):
    """A move that leaves out a stage, or leaves `retired`."""

    exit_code = 3


class GateRefused(FlipRefused):
    """A condition is not met; the message holds the number that is missing."""

    exit_code = 3


class RevisionMoved(FlipRefused):
    """The revision that the caller saw is not the current one any more."""

    exit_code = 4


class StoreUnavailable(StranglerError):
    """The control database cannot be reached or does not answer in time."""


class ControlUnreachable(StranglerError):
    """The control plane cannot be reached or does not answer in time."""

    exit_code = 6


class NotAcknowledged(StranglerError):
    """The change stands, but a live proxy has not acknowledged it in time."""

    exit_code = 5


class MalformedFields(StranglerError):
    """Fields of a request or an answer that could be read in two ways."""


class MalformedTarget(StranglerError):
    """A request target that could be read in two ways. `status` is the answer it must get."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
