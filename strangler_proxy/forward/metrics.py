"""Counters and histograms of the data plane, in the text format of Prometheus. Made to cost next to nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

from strangler_proxy.forward import mirror_metrics

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the latency buckets in seconds."""

REQUESTS: Final = "strangler_proxy_requests_total"
DURATION: Final = "strangler_proxy_request_duration_seconds"
HOLD_DURATION: Final = "strangler_proxy_hold_duration_seconds"
UPSTREAM_ERRORS: Final = "strangler_proxy_upstream_errors_total"
PROBLEMS: Final = "strangler_proxy_problems_total"
FENCED: Final = "strangler_proxy_fenced_total"
FALLBACKS: Final = "strangler_proxy_fallbacks_total"
RETRIES: Final = "strangler_proxy_retries_total"
RETRIES_REFUSED: Final = "strangler_proxy_retries_refused_total"
SHED: Final = "strangler_proxy_shed_total"
BREAKER_OPENED: Final = "strangler_proxy_breaker_opened_total"
BREAKER_OPEN: Final = "strangler_proxy_breaker_open"
EJECTIONS: Final = "strangler_proxy_ejections_total"
EJECTED: Final = "strangler_proxy_endpoint_ejected"
PENDING: Final = "strangler_proxy_pending_requests"
CLIENT_LEFT: Final = "strangler_proxy_client_left_total"
OWN_WRITE_READS: Final = "strangler_proxy_own_write_reads_total"
HELD: Final = "strangler_proxy_held_requests"
IN_FLIGHT: Final = "strangler_proxy_in_flight_requests"
CONNECTIONS: Final = "strangler_proxy_client_connections_count"
KEPT_BYTES: Final = "strangler_proxy_kept_body_bytes"
TUNNELS: Final = "strangler_proxy_tunnels_total"
OPEN_TUNNELS: Final = "strangler_proxy_open_tunnels_count"

_HELP: Final = {
    REQUESTS: "Requests that were answered, by route, origin that served and class of status.",
    DURATION: "Seconds from a request's head to the end of its answer.",
    HOLD_DURATION: "Seconds that requests were held, by flag and how it ended.",
    UPSTREAM_ERRORS: "Failed attempts at an upstream, by cluster and RFC 9209 error type.",
    PROBLEMS: "Answers of the proxy's own, by code.",
    FENCED: "Answers that met the fence, by flag and what became of them.",
    FALLBACKS: "Safe requests served by the monolith because extracted could not be reached, by route.",
    RETRIES: "Requests sent once more, by why.",
    RETRIES_REFUSED: "Requests that were not sent once more because too many are, by cluster.",
    SHED: "Requests refused because too many are pending, by cluster and scope (cluster or all).",
    BREAKER_OPENED: "Times that a breaker opened, by cluster and route.",
    BREAKER_OPEN: "1 while a breaker is open or half-open, by cluster and route.",
    EJECTIONS: "Times that an endpoint was taken out, by cluster and why (outlier or probe).",
    EJECTED: "1 while an endpoint gets no requests, by cluster and endpoint.",
    PENDING: "Requests at a cluster or waiting for a connection, by cluster.",
    CLIENT_LEFT: "Clients that left before their answer ended.",
    OWN_WRITE_READS: "Safe requests sent to the owner because their subject wrote lately, by flag.",
    HELD: "Requests that wait in a gate now, by flag.",
    IN_FLIGHT: "Requests that are being answered now.",
    CONNECTIONS: "Open client connections.",
    KEPT_BYTES: "Bytes of request bodies kept for a replay.",
    TUNNELS: "WebSockets that were opened.",
    OPEN_TUNNELS: "WebSockets that are open now.",
    **mirror_metrics.HELP,
}


class Histogram:
    """Counts by bucket and their sum; `observe` allocates nothing."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.total_s += seconds


class Series:
    """Requests of one route at one origin: a histogram, and a count per class of status."""

    __slots__ = ("classes", "histogram")

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.classes = [0] * 6

    def observe(self, status: int, seconds: float) -> None:
        """Count one request that ended with this status."""
        histogram = self.histogram
        histogram.counts[bisect_left(BOUNDS_S, seconds)] += 1
        histogram.total_s += seconds
        self.classes[status // 100 if status < 600 else 5] += 1


class ForwardMetrics:
    """All numbers of one proxy process. `render` gives the text; a scrape is the only time when it is made."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self.holds: dict[tuple[str, str], Histogram] = {}
        self.counters: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self.gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def of_route(self, route: str, origin: str) -> Series:
        """The series of a route at an origin; the same object each time."""
        found = self.series.get((route, origin))
        if found is None:
            found = self.series[route, origin] = Series()
        return found

    def held(self, flag: str, outcome: str, seconds: float) -> None:
        """A hold ended: `released`, `timeout` or `left`."""
        self.holds.setdefault((flag, outcome), Histogram()).observe(seconds)

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter of rare events."""
        key = (name, tuple(labels.items()))
        self.counters[key] = self.counters.get(key, 0) + 1

    def set_counter(self, name: str, number: int, **labels: str) -> None:
        """Take over a counter that is kept elsewhere."""
        self.counters[name, tuple(labels.items())] = number

    def value(self, name: str, **labels: str) -> int:
        """What a counter says; 0 if it never counted."""
        return self.counters.get((name, tuple(labels.items())), 0)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.gauges[name, tuple(labels.items())] = value

    def drop_gauges(self, name: str) -> None:
        """Forget a gauge with all its labels, before it is set anew."""
        for key in [key for key in self.gauges if key[0] == name]:
            del self.gauges[key]

    def render(self) -> str:
        """The text format of Prometheus, version 0.0.4."""
        return "\n".join((*self._requests(), *self._histograms(), *self._plain())) + "\n"

    def _requests(self) -> Iterator[str]:
        yield from _header(REQUESTS, "counter")
        for (route, origin), series in self.series.items():
            for digit, number in enumerate(series.classes):
                if number:
                    labels = (("route", route), ("origin", origin), ("code", f"{digit}xx"))
                    yield f"{REQUESTS}{_labels(labels)} {number}"

    def _histograms(self) -> Iterator[str]:
        yield from _header(DURATION, "histogram")
        for (route, origin), series in self.series.items():
            yield from _buckets(DURATION, (("route", route), ("origin", origin)), series.histogram)
        yield from _header(HOLD_DURATION, "histogram")
        for (flag, outcome), histogram in self.holds.items():
            yield from _buckets(HOLD_DURATION, (("flag", flag), ("outcome", outcome)), histogram)

    def _plain(self) -> Iterator[str]:
        for kind, values in (("counter", self.counters), ("gauge", self.gauges)):
            for name in sorted({name for name, _ in values}):
                yield from _header(name, kind)
                for (of, labels), number in values.items():
                    if of == name:
                        yield (
                            f"{name}{_labels(labels)} {number:g}"
                            if kind == "gauge"
                            else f"{name}{_labels(labels)} {number}"
                        )


def _header(name: str, kind: str) -> Iterable[str]:
    return (f"# HELP {name} {_HELP.get(name, name)}", f"# TYPE {name} {kind}")


def _buckets(name: str, labels: tuple[tuple[str, str], ...], histogram: Histogram) -> Iterator[str]:
    running = 0
    for bound, number in zip((*map(str, BOUNDS_S), "+Inf"), histogram.counts, strict=True):
        running += number
        yield f"{name}_bucket{_labels((*labels, ('le', bound)))} {running}"
    yield f"{name}_sum{_labels(labels)} {histogram.total_s:.9g}"
    yield f"{name}_count{_labels(labels)} {running}"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
