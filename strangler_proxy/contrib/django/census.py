"""The census in a Django project: which of its code reads or writes tables that move. Never in a request's way.

`settings.STRANGLER["CENSUS"] = True` puts it on every PostgreSQL connection of the project. What it does is said by
`strangler sync census FLAG --mode ...`, in the database itself: nothing, count, or refuse reads at the side that is
not the owner. A statement that touches no counted table costs about a microsecond; figures are in docs/how-to.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

from django.db import ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from strangler_proxy.contrib.django.census_mode import CONFIRM, FlagMode, Rows, read_modes
from strangler_proxy.contrib.django.census_place import Whereabouts, whereabouts
from strangler_proxy.contrib.django.census_reporter import reporter
from strangler_proxy.contrib.django.census_tally import Seen
from strangler_proxy.contrib.django.configuration import configuration
from strangler_proxy.contrib.record import fence_in
from strangler_proxy.core.census_statement import READ

_ATTRIBUTE = "_strangler_census"
_NAME_SESSION = "SELECT set_config('application_name', %s, false) WHERE current_setting('application_name') = ''"

logger = logging.getLogger("strangler.census")
_broken: list[str] = []


class TableRefused(ProgrammingError):
    """The census refuses reads of a table here: its rows moved, and this place is not on the list of who may.

    A ProgrammingError, as the missing table will be once the capability is retired.
    """


class Watch:
    """Counts one connection's statements."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection

    def __repr__(self) -> str:
        return f"<Watch {self.connection.alias}>"

    def execute(self, run: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Django's execute wrapper: around each statement of its cursors."""
        finder = reporter.modes.finder
        if time.monotonic() >= reporter.look_at:
            reporter.look()
        if finder is None:
            return run(sql, params, many, context)
        touched = finder.touched(sql if isinstance(sql, str) else _text(sql, self.connection))
        if not touched:
            return run(sql, params, many, context)
        seen = self._note(touched)
        try:
            return run(sql, params, many, context)
        except Exception as error:
            if fence_in(error) is not None:
                for each in seen:
                    reporter.tally.refused(each)
            raise

    def _note(self, touched: tuple[Any, ...]) -> list[Seen]:
        """Count the places; raises TableRefused, and nothing else."""
        try:
            where = whereabouts()
            seen = [
                Seen(flag, table, access, where.kind, where.name, where.place)
                for (table, flags), access in touched
                for flag in flags
            ]
            for each in seen:
                reporter.noted(reporter.tally.note(each))
            refused = next((each for each in seen if self._refuses(each, where)), None)
        except Exception as error:  # noqa: BLE001  (counting may fail; the statement may not)
            _failed(error)
            return []
        if refused is not None:
            reporter.tally.refused(refused)
            raise TableRefused(_sentence(refused, where))
        return seen

    def _refuses(self, seen: Seen, where: Whereabouts) -> bool:
        mode: FlagMode | None = reporter.modes.flags.get(seen.flag)
        if mode is None or not mode.refuses or seen.access != READ or where.kind == "mirror":
            return False
        if self.connection.alias != configuration().database or mode.allows(seen.table, where):
            return False
        return bool(_ask(self.connection, CONFIRM, [seen.flag])[0][0])


def on_connection_created(sender: Any, connection: BaseDatabaseWrapper, **_: object) -> None:
    """Receiver of Django's `connection_created`: the modes are read where they are old, before any transaction."""
    install(connection)
    if reporter.is_mine() or not _is_ours(connection) or not connection.autocommit:
        return
    try:
        _ask(connection, _NAME_SESSION, [configuration().service])
        if connection.alias == configuration().database and time.monotonic() >= reporter.look_at:
            reporter.took(read_modes(lambda statement: _ask(connection, statement)))
    except Exception as error:  # noqa: BLE001  (the project's connection is good without it)
        _failed(error)


def install(connection: BaseDatabaseWrapper) -> None:
    """Watch this connection from now on; safe to repeat. Only databases that may hold the rows that move."""
    if _is_ours(connection) and getattr(connection, _ATTRIBUTE, None) is None:
        watch = Watch(connection)
        setattr(connection, _ATTRIBUTE, watch)
        connection.execute_wrappers.insert(0, watch.execute)  # first, as `execute_wrapper()` blocks pop the last


def _is_ours(connection: BaseDatabaseWrapper) -> bool:
    """The database of the setting `DATABASE`, and others of its name: its replicas."""
    ours = connections[configuration().database].settings_dict
    return connection.vendor == "postgresql" and connection.settings_dict["NAME"] == ours["NAME"]


def _ask(connection: Any, statement: str, params: Any = None) -> Rows:
    """One statement on the driver's own cursor, past Django's wrappers and in the open transaction, if any."""
    with connection.connection.cursor() as cursor:
        cursor.execute(statement, params)
        return list(cursor.fetchall())


def _text(sql: Any, connection: Any) -> str:
    try:
        return str(sql.as_string(connection.connection))
    except Exception:  # noqa: BLE001  (not a composition of psycopg, or a faulty one: the driver will say so)
        return str(sql)


def _sentence(seen: Seen, where: Whereabouts) -> str:
    return (
        f'table "{seen.table}" of flag "{seen.flag}" is not read here any more, and {where} reads it: its rows moved.'
        f" To let it read meanwhile: strangler sync census {seen.flag} --mode refuse --allow '{_pattern(where)}'"
    )


def _pattern(where: Whereabouts) -> str:
    return where.place.rpartition(":")[0] or f"{where.kind}:{where.name}"


def _failed(error: Exception) -> None:
    """Told once per process and kind of error."""
    kind = type(error).__name__
    if kind not in _broken:
        _broken.append(kind)
        logger.warning("census.count_failed", extra={"error": f"{kind}: {error}"[:300]})
