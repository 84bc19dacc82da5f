"""What a judge is told: where evidence goes, how far comparing goes, how often the sides are asked once more."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from strangler_proxy.core.difference import Limits
from strangler_proxy.core.evidence import Bounds
from strangler_proxy.core.verdict import Demands


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """Settings of the judging process of one proxy process.

    `evidence` is a URL (`sqlite:///abs/path`, `postgresql://...`, `memory:`), `secret` the key of the marks that stand
    for secrets (at least 16 bytes), `writer` whose tallies these are (empty: host, process and chance). `alpha` and
    `limit` are for verdicts. A sample of `aa_share` of the pairs, 0..1, and of `aa_per_s` a second at most, is compared
    whole, and its control asked twice where that is safe. A mismatch is asked again `again_after_s` later. Versions by
    label count where an answer names none in `version_header`.
    """

    evidence: str
    secret: bytes = field(repr=False)
    writer: str = ""
    alpha: float = 0.05
    limit: float = 0.001
    again_after_s: float = 2.0
    aa_share: float = 0.05
    aa_per_s: float = 20.0
    bounds: Bounds = field(default_factory=Bounds)
    compare_limits: Limits = field(default_factory=Limits)
    compare_s: float = 1.0
    """Seconds of wall-clock that one comparison may take; then it is inconclusive."""
    rules_every_s: float = 5.0
    publish_every_s: float = 1.0
    prune_every_s: float = 60.0
    version_header: str = "x-code-version"
    control_version: str = ""
    candidate_version: str = ""
    session_cookies: frozenset[str] = frozenset()
    """Names of cookies that mean signed in, beside the usual ones; in lower case."""
    waiting_bytes: int = 16 * 1024 * 1024
    """Bytes of pairs that may wait in the proxy for the judge."""
    waiting_pairs: int = 2_000
    asks_at_once: int = 16
    asks_waiting: int = 256
    duty: float = 0.5
    """The share of one processor that a judge uses at most, 0..1; pairs that it cannot take are dropped and counted."""

    def __post_init__(self) -> None:
        if len(self.secret) < 16:
            raise ValueError(f"the secret of a judge has {len(self.secret)} bytes: give at least 16")
        if not 0.0 <= self.aa_share <= 1.0:
            raise ValueError(f"aa_share {self.aa_share} is outside 0..1")
        if not 0.0 < self.duty <= 1.0:
            raise ValueError(f"duty {self.duty} is outside 0..1")
        if self.aa_per_s < 0.0:
            raise ValueError(f"aa_per_s {self.aa_per_s} is less than 0")

    @property
    def demands(self) -> Demands:
        """What verdicts ask for where a route says nothing else."""
        return Demands(limit=self.limit, alpha=self.alpha)

    def document(self) -> dict[str, Any]:
        """As plain values, for the judging process alone: the secret is in it."""
        said = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        said["bounds"] = dataclasses.asdict(self.bounds)
        said["compare_limits"] = dataclasses.asdict(self.compare_limits)
        said["session_cookies"] = sorted(self.session_cookies)
        return said


def read_settings(document: dict[str, Any]) -> JudgeSettings:
    """Settings from `JudgeSettings.document`."""
    said = dict(document)
    said["bounds"] = Bounds(**said["bounds"])
    said["compare_limits"] = Limits(**said["compare_limits"])
    said["session_cookies"] = frozenset(said["session_cookies"])
    return JudgeSettings(**said)
