"""The mirror's numbers, in the metrics of its process; worked out when somebody asks."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from strangler_proxy.core.pair import EQUAL, NOT_SAMPLED

if TYPE_CHECKING:
    from strangler_proxy.forward.metrics import ForwardMetrics
    from strangler_proxy.forward.mirror import Mirror

ELIGIBLE: Final = "strangler_mirror_eligible_total"
REQUESTS: Final = "strangler_mirror_requests_total"
NOT_IN_SAMPLE: Final = "strangler_mirror_not_sampled_total"
DROPPED: Final = "strangler_mirror_dropped_total"
FAILURES: Final = "strangler_mirror_failures_total"
ASKS: Final = "strangler_mirror_asks_total"
QUEUED: Final = "strangler_mirror_queued_requests"
UNDER_WAY: Final = "strangler_mirror_under_way_requests"
HELD_BYTES: Final = "strangler_mirror_held_bytes"
PAUSED: Final = "strangler_mirror_paused"
PROVED: Final = "strangler_mirror_writes_proved"

PAIRED: Final = "pair"
"""What a request is counted as that was compared."""
HELP: Final = {
    ELIGIBLE: "Requests that could have been mirrored, by flag.",
    REQUESTS: "Requests that were mirrored, by flag and outcome (equal byte for byte, or pair: compared).",
    NOT_IN_SAMPLE: "Eligible requests that the sample left out, by flag.",
    DROPPED: "Eligible requests that were not mirrored, or not to the end, by flag and reason.",
    FAILURES: "Copies without an answer that can be compared, by cluster and failure.",
    ASKS: "Safe requests that were asked once more, by side.",
    QUEUED: "Copies that wait now.",
    UNDER_WAY: "Copies that were sent and not answered yet.",
    HELD_BYTES: "Bytes that copies hold now.",
    PAUSED: "1 while nothing is mirrored to a cluster because it failed, by cluster.",
    PROVED: "1 while writes are mirrored, 0 once the proof was lost, by flag and endpoint.",
}


def publish(mirror: Mirror, metrics: ForwardMetrics) -> None:
    """Set counters and gauges to what they are now."""
    eligible: dict[str, int] = {}
    for (flag, fate), number in mirror.tally.items():
        eligible[flag] = eligible.get(flag, 0) + number
        if fate in (EQUAL, PAIRED):
            metrics.set_counter(REQUESTS, number, flag=flag, outcome=fate)
        elif fate == NOT_SAMPLED:
            metrics.set_counter(NOT_IN_SAMPLE, number, flag=flag)
        else:
            metrics.set_counter(DROPPED, number, flag=flag, reason=fate)
    for flag, number in eligible.items():
        metrics.set_counter(ELIGIBLE, number, flag=flag)
    for (cluster, failure), number in mirror.targets.failures.items():
        metrics.set_counter(FAILURES, number, cluster=cluster, failure=failure)
    for side, number in mirror.asks.items():
        metrics.set_counter(ASKS, number, side=side.value)
    metrics.gauge(QUEUED, mirror.queued)
    metrics.gauge(UNDER_WAY, mirror.under_way)
    metrics.gauge(HELD_BYTES, mirror.memory.held)
    metrics.drop_gauges(PAUSED)
    for each in mirror.targets.clusters.values():
        metrics.gauge(PAUSED, not each.breaker.closed, cluster=each.cluster.name)
    for flag, endpoint, holds in mirror.proofs.each(monotonic()):
        metrics.gauge(PROVED, holds, flag=flag, endpoint=str(endpoint))
