"""What `status` knows of a retired flag."""

from __future__ import annotations

import itertools

from strangler_proxy.core.flag import Flag
from strangler_proxy.core.retire import Retired
from strangler_proxy.core.stage import Stage
from strangler_proxy.store import Store

_KINDS = ("retire", "retire_drop", "retire_undo")


async def retired_of(store: Store, flag: Flag) -> Retired | None:
    """What `status` says of a retired flag, from what workers told of the operations; None for another stage."""
    if flag.stage is not Stage.RETIRED:
        return None
    done = [each for each in await store.records.operations(flag.key, 200) if each.status == "done"]
    dumps = [step["detail"] for each in done for step in each.steps if step["name"] == "dump folder"]
    meant = [each.kind for each in done if each.kind in _KINDS and each.args.get("dry_run") != "yes"]
    kinds = set(itertools.takewhile(lambda kind: kind != "retire_undo", meant))
    if not flag.owns_data:
        tables = "none"
    elif "retire_drop" in kinds:
        tables = "dropped"
    else:
        tables = ("read-only" if dumps else "kept") if "retire" in kinds else "going on"
    return Retired(
        since=flag.changed_at, by=flag.changed_by, reason=flag.reason, dump=dumps[0] if dumps else "", tables=tables
    )
