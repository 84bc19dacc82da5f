"""Completion with the names that exist now; silence where the control plane does not answer quickly."""

from __future__ import annotations

from strangler_proxy.core.errors import StranglerError


def flag_names(incomplete: str) -> list[str]:
    """Keys of flags."""
    return _names("/v1/flags", "flags", "key", incomplete)


def route_names(incomplete: str) -> list[str]:
    """Names of routes."""
    return _names("/v1/routes", "routes", "name", incomplete)


def stage_names(incomplete: str) -> list[str]:
    """Stages that a flip may ask for."""
    return [name for name in ("monolith", "shadow", "canary", "extracted") if name.startswith(incomplete)]


def _names(path: str, kind: str, field: str, incomplete: str) -> list[str]:
    from strangler_proxy.cli.client import Control
    from strangler_proxy.settings import ClientSettings, load

    try:
        with Control(load(ClientSettings, control_timeout_s=1.0), attempts=1) as control:
            found = [str(each[field]) for each in control.get(path)[kind]]
    except StranglerError:
        return []
    return [name for name in found if name.startswith(incomplete)]
