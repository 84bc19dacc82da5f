"""`settings.STRANGLER`, parsed once: who we are and where the ownership record is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from strangler_proxy.core.shadow_wire import MIN_SECRET_BYTES

ORIGINS = ("monolith", "extracted")


@dataclass(frozen=True)
class Configuration:
    """What `settings.STRANGLER` says; every key has a default."""

    origin: str = "monolith"
    """`ORIGIN`: who this project is, for good."""
    database: str = "default"
    """`DATABASE`: alias of the database with the rows that move, and with the schema `strangler`."""
    service: str = "monolith"
    """`SERVICE`: name in logs and metrics."""
    uncounted_tables: frozenset[str] = frozenset({"django_session"})
    """`UNCOUNTED_TABLES`: writes there do not stand in the way of a replay (sessions, rate limits)."""
    read_timeout_ms: int = 1000
    """`READ_TIMEOUT_MS`: limit of the ownership read after a fence; 503 beyond it."""
    shadow_secret: str = field(default="", repr=False)
    """`SHADOW_SECRET`: the proxy's signing secret, for marks of shadow mode; else the environment's."""
    shadow_cache_effects: bool = False
    """`SHADOW_CACHE_EFFECTS`: are cache writes told as effects? They are captured in any case."""
    census: bool = False
    """`CENSUS`: may the census count here, when `strangler sync census FLAG --mode ...` asks for it?"""


@lru_cache(maxsize=1)
def configuration() -> Configuration:
    """The settings in force. Raises ImproperlyConfigured, naming every wrong key at once."""
    given: dict[str, Any] = dict(getattr(settings, "STRANGLER", {}))
    origin = given.pop("ORIGIN", "monolith")
    database = given.pop("DATABASE", "default")
    service = given.pop("SERVICE", origin)
    tables = given.pop("UNCOUNTED_TABLES", ["django_session"])
    timeout = given.pop("READ_TIMEOUT_MS", 1000)
    secret = given.pop("SHADOW_SECRET", "")
    cache_effects = given.pop("SHADOW_CACHE_EFFECTS", False)
    census = given.pop("CENSUS", False)
    wrong = [f"unknown key {key!r}" for key in sorted(given)]
    if origin not in ORIGINS:
        wrong.append(f"ORIGIN {origin!r} is not one of {', '.join(ORIGINS)}")
    if database not in settings.DATABASES:
        wrong.append(f"DATABASE {database!r} is not in settings.DATABASES")
    if not isinstance(timeout, int) or not 1 <= timeout <= 60_000:
        wrong.append(f"READ_TIMEOUT_MS {timeout!r} is not an integer from 1 to 60000")
    if not isinstance(secret, str) or 0 < len(secret.encode()) < MIN_SECRET_BYTES:
        wrong.append(f"SHADOW_SECRET is not a text of at least {MIN_SECRET_BYTES} bytes")
    if not isinstance(cache_effects, bool):
        wrong.append(f"SHADOW_CACHE_EFFECTS {cache_effects!r} is not True or False")
    if not isinstance(census, bool):
        wrong.append(f"CENSUS {census!r} is not True or False")
    if wrong:
        raise ImproperlyConfigured("settings.STRANGLER: " + "; ".join(wrong))
    return Configuration(
        origin=origin,
        database=database,
        service=service,
        uncounted_tables=frozenset(tables),
        read_timeout_ms=timeout,
        shadow_secret=secret,
        shadow_cache_effects=cache_effects,
        census=census,
    )


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("STRANGLER", "DATABASES"):
        configuration.cache_clear()


setting_changed.connect(_forget, dispatch_uid="strangler_configuration")
