"""Settings of the card processor, read once from `SHOP_PROCESSOR_*`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorSettings:
    """`webhook_url` may be empty: events then stay in the ledger unsent."""

    token: str
    webhook_secret: str
    webhook_url: str
    ledger: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProcessorSettings:
        """Read the environment; raises `ValueError` that lists everything missing at once."""
        required = ("SHOP_PROCESSOR_TOKEN", "SHOP_PROCESSOR_WEBHOOK_SECRET", "SHOP_PROCESSOR_LEDGER")
        missing = [name for name in required if not environ.get(name)]
        if missing:
            raise ValueError(f"card processor: set {', '.join(missing)}")
        return cls(
            token=environ["SHOP_PROCESSOR_TOKEN"],
            webhook_secret=environ["SHOP_PROCESSOR_WEBHOOK_SECRET"],
            webhook_url=environ.get("SHOP_PROCESSOR_WEBHOOK_URL", ""),
            ledger=Path(environ["SHOP_PROCESSOR_LEDGER"]),
        )
