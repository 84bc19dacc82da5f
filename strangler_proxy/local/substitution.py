"""`{ports.proxy}` and the like in strangler.toml: found when the file is read, filled in when it is run.

A brace that does not hold a dotted name stays as it is, so that JSON can be written; `{{name}}` is a literal `{name}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z0-9_.-]+)\}\}|\{([a-z_]+(?:\.[A-Za-z0-9_-]+)*)\}")


def names_in(text: str) -> tuple[str, ...]:
    """Names that `text` refers to, in order.

    >>> names_in("redis://{valkey.host}:{ports.valkey} {{literal}}")
    ('valkey.host', 'ports.valkey')
    """
    return tuple(found[2] for found in _PLACEHOLDER.finditer(text) if found[2])


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """`text` with every name replaced. Raises KeyError for a name that has no value.

    >>> fill_in("http://127.0.0.1:{ports.web}/ {{ports.web}}", {"ports.web": "8001"})
    'http://127.0.0.1:8001/ {ports.web}'
    """
    return _PLACEHOLDER.sub(lambda found: values[found[2]] if found[2] else f"{{{found[1]}}}", text)
