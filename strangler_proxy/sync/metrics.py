"""What a worker counts. Listed in docs/reference/metrics.md."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

LAG = Gauge("strangler_sync_lag_seconds", "How far the target is behind the source.", ["flag"])
DIRTY = Gauge("strangler_sync_dirty_keys", "Dirty keys that wait.", ["flag"])
STUCK = Gauge("strangler_sync_stuck_keys", "Keys that the target refuses.", ["flag"])
LIVE = Gauge("strangler_sync_live", "1 while every batch takes all dirty keys.", ["flag"])
PAUSED = Gauge("strangler_sync_paused", "1 while the stream is paused.", ["flag"])
KEYS = Counter("strangler_sync_keys_applied_total", "Keys carried over.", ["flag", "source"])
MISMATCHES = Counter("strangler_sync_mismatches_total", "Rows that verification found different.", ["flag"])
ERRORS = Counter("strangler_sync_errors_total", "Times that a stream had to begin again.", ["flag"])
BATCH = Histogram(
    "strangler_sync_batch_seconds",
    "Duration of a batch that carried something.",
    ["flag"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
CUTOVERS = Counter("strangler_cutovers_total", "Cutovers by outcome.", ["flag", "outcome"])
HOLD = Histogram(
    "strangler_cutover_hold_seconds",
    "From the first hold to its release.",
    ["flag"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5),
)
OPERATIONS = Counter("strangler_worker_operations_total", "Operations that ended here.", ["kind", "status"])
STREAMS = Gauge("strangler_worker_streams", "Streams that this worker runs.")
