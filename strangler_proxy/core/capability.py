"""A capability as its file declares it: what moves as one. Stage and weight are not declared; verbs change them."""

from __future__ import annotations

from dataclasses import dataclass, field

from strangler_proxy.core.judging import Judging
from strangler_proxy.core.manifest import Manifest
from strangler_proxy.core.route import Cluster, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """One file `migrations_plan/KEY.toml`, parsed and valid by itself (names of other files are not known here).

    `allow`, `deny`, `fallback_safe` and `mirror_sample` are declared values of the flag; `manifest` is None where the
    flag owns no data; `judging` holds compare rules and demands on evidence. `file_text` is kept word for word, so that
    a difference can be shown.
    """

    key: str
    file_name: str
    file_text: str
    routes: tuple[Route, ...]
    clusters: tuple[Cluster, ...]
    salt: str = ""
    manifest: Manifest | None = None
    allow: frozenset[str] = field(default_factory=frozenset)
    deny: frozenset[str] = field(default_factory=frozenset)
    fallback_safe: bool = True
    mirror_sample: int = 10_000
    judging: Judging = field(default_factory=Judging)

    @property
    def owns_data(self) -> bool:
        """Does it declare rows that move?"""
        return self.manifest is not None
