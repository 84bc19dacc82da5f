"""What the benchmark is held against: design targets, each with what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.measure import Figures
from tests.benchmarks.summary import ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """CPU per request of `who` in `case` is at most `most` times that of `beside`, in the same run."""

    who: str
    case: str
    beside: str
    most: float

    def found(self, figures: Sequence[Figures]) -> float:
        """The ratio; not a number where somebody did not take part."""
        return ratio(figures, self.who, self.beside, self.case)

    def __str__(self) -> str:
        return f"{self.who}, {self.case}: at most {self.most:g} x {self.beside}"


TARGETS: Final = (
    Target(who="strangler", case="1 KB", beside="nginx", most=1.75),
    Target(who="strangler", case="1 KB", beside="envoy", most=0.8),
    Target(who="strangler", case="POST 4 KB", beside="nginx", most=1.75),
    Target(who="strangler", case="POST 4 KB", beside="envoy", most=0.8),
    Target(who="strangler", case="64 KB", beside="nginx", most=1.5),
    Target(who="strangler", case="64 KB", beside="envoy", most=0.85),
    Target(who="strangler-shadow-100", case="1 KB", beside="nginx", most=2.8),
    Target(who="strangler-shadow-100", case="1 KB", beside="envoy", most=1.25),
    Target(who="strangler-asgi-granian", case="1 KB", beside="nginx", most=2.8),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One target and what was found; `met` None: it was not measured."""

    target: str
    found: str
    met: bool | None


def judged(figures: Sequence[Figures]) -> list[Verdict]:
    """Every target of CPU per request."""
    return [
        Verdict(target=str(each), found=_shown(found), met=None if found != found else found <= each.most)
        for each, found in ((each, each.found(figures)) for each in TARGETS)
    ]


def _shown(found: float) -> str:
    return "not measured" if found != found else f"{found:.2f}"
