"""What can be made to go wrong, and how it is said in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """`latency_ms` 0..60000 before each operation; rates 0.0..1.0; `down` answers 503 and sends no webhook.

    `timeout_after_charge_rate`: the share of newly recorded charges and refunds whose answer never comes.
    """

    latency_ms: int = 0
    decline_rate: float = 0.0
    timeout_after_charge_rate: float = 0.0
    down: bool = False

    def changed(self, values: dict[str, Any]) -> Switches:
        """These switches with some replaced; raises `ValueError` for an unknown name or a value out of range."""
        unknown = values.keys() - asdict(self).keys()
        if unknown:
            raise ValueError(f"unknown switches: {', '.join(sorted(unknown))}")
        for name in ("decline_rate", "timeout_after_charge_rate"):
            _number(values, name, 1)
        _number(values, "latency_ms", 60_000)
        if not isinstance(values.get("down", False), bool):
            raise ValueError("down: must be true or false")
        return replace(self, **values)

    def as_json(self) -> dict[str, Any]:
        """All four, as `GET /v1/switches` answers them."""
        return asdict(self)


def _number(values: dict[str, Any], name: str, highest: int) -> None:
    value = values.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= highest:
        raise ValueError(f"{name}: {value!r} is outside 0..{highest}")
