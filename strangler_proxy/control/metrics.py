"""Metrics of the control plane. Names and labels: docs/reference/metrics.md."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ControlMetrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "strangler_control_calls_total",
            "Calls answered, by verb and status.",
            ("verb", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "strangler_control_call_seconds",
            "Seconds from a call to its answer, waiting for proxies included.",
            ("verb",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.refused = Counter(
            "strangler_control_refused_total",
            "Calls refused before their verb: no token, read-only token, too many guesses, another site.",
            ("code",),
            registry=self.registry,
        )
