"""Kill switches as files of this host: `kill-FLAG` and `kill-all` in the state folder. No database is needed.

A file that is there sends the flag's safe requests to the monolith; taking it away ends that. A flag cannot be named
`all`. Proxies look twice a second.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from strangler_proxy.core.errors import UnknownName
from strangler_proxy.forward.state import KILL_ALL

LOOK_S: Final = 0.4
_PREFIX: Final = "kill-"
_ALL: Final = "all"
_FLAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")


def read_kills(state_dir: Path) -> frozenset[str]:
    """Flag keys whose kill switch is on, `*` for all of them; nothing where there is no folder.

    Raises OSError where the folder cannot be read: keep what was known then.
    """
    try:
        names = os.listdir(state_dir)  # noqa: PTH208 -- names only, twice a second
    except FileNotFoundError:
        return frozenset()
    keys = (name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
    return frozenset(KILL_ALL if key == _ALL else key for key in keys if _FLAG.match(key))


def kill_file(state_dir: Path, flag: str) -> Path:
    """The file of a flag's switch; of all flags for `all`. Raises UnknownName for what cannot be a flag's key."""
    if not _FLAG.match(flag):
        raise UnknownName(
            f'"{flag}" is not a flag: letters, digits, dot, dash and underscore', next_command="strangler status"
        )
    return state_dir / f"{_PREFIX}{flag}"


def switch_on(state_dir: Path, flag: str, *, text: str = "") -> Path:
    """Turn a kill switch on; `text` is for people who find the file. Idempotent; the file."""
    path = kill_file(state_dir, flag)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def switch_off(state_dir: Path, flag: str) -> bool:
    """Turn a kill switch off; was it on?"""
    path = kill_file(state_dir, flag)
    was_on = path.exists()
    path.unlink(missing_ok=True)
    return was_on
