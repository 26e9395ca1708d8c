"""Prometheus metrics, summed over the worker processes.

prometheus_client shares them through files in PROMETHEUS_MULTIPROC_DIR, which has to be set before
it is imported: `server` does so, and imports this module in the workers only. Where it is not set,
as in Ray Serve's replicas, every process shows its own.
"""

import os
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
PICTURES = (1, 2, 4, 8, 16, 32, 64, 128)

REQUESTS = Counter("ppcls_requests_total", "Requests answered", ["protocol", "route", "status"])
LATENCY = Histogram(
    "ppcls_request_seconds", "Time from the head of a request to the end of its answer",
    ["protocol", "route"], buckets=SECONDS,
)  # fmt: skip
ERRORS = Counter("ppcls_errors_total", "Requests refused or failed", ["kind"])
IN_PROGRESS = Gauge(
    "ppcls_requests_in_progress", "Inference requests held by the workers",
    multiprocess_mode="livesum",
)  # fmt: skip
REQUEST_BYTES = Gauge(
    "ppcls_request_bytes", "Memory that requests hold, as --request-memory-mb counts it",
    multiprocess_mode="livesum",
)  # fmt: skip
QUEUE = Gauge(
    "ppcls_queue_length", "Jobs waiting for the workers' compute threads",
    multiprocess_mode="livesum",
)  # fmt: skip
BATCH = Histogram("ppcls_batch_pictures", "Images per run of a model", buckets=PICTURES)
RUN = Histogram("ppcls_run_seconds", "Time of one run of a model", ["model"], buckets=SECONDS)
RELOADS = Counter("ppcls_reloads_total", "Export folders read again", ["outcome"])


def exposition() -> bytes:
    """Returns the metrics of all workers in Prometheus' text format."""
    if DIRECTORY not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


def forget_dead_workers() -> None:
    """Drops the gauges of workers that no longer exist: what they held is gone with them."""
    if DIRECTORY not in os.environ:
        return
    for file in Path(os.environ[DIRECTORY]).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)
