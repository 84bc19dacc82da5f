"""The control database: rows in, core values out. SQL in `sql/`, schema in `migrations/`, twins in `memory.py`.

Theory: the single row of `strangler.state` holds the table's revision and the head of the audit chain. Every change
locks it first, so changes are one after the other, and each is one transaction: compare-and-set, rows, audit entry,
NOTIFY. Triggers refuse a change without an audit entry, and any change of an entry.
"""

from strangler_proxy.store.database import Database
from strangler_proxy.store.migrate import migrate
from strangler_proxy.store.opened import Store, open_store

__all__ = ["Database", "Store", "migrate", "open_store"]
