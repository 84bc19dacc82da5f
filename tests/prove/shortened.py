"""The part of a history that a person reads first: the operations on the keys that something is wrong with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.prove.checker import Violation
from tests.prove.history import read

_LINES = 40


def shortened(histories: Sequence[Path], violations: Sequence[Violation]) -> list[str]:
    """At most forty lines; without a key to look for, the ends of all histories."""
    keys = {key for violation in violations[:10] for key in violation.keys}
    lines: list[str] = []
    for path in histories:
        found = [line for line in read(path) if not keys or keys & {str(value) for value in line.values()}]
        lines += [f"{path.stem} {json.dumps(line)}" for line in (found if keys else found[-6:])]
    return lines[:_LINES]
