"""What Prometheus reads: TensorFlow Serving's metrics under their names, and the queue's.

Names, labels, units and buckets of what begins with ``:tensorflow:serving:`` are Serving's, so that
its dashboards and alerts work here too. Serving has no measure of its queue; ours begins with
``esc_tf_serving_``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from serving.batching.scheduler import BatchRun

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_PATH = "/monitoring/prometheus/metrics"

_COUNT = ":tensorflow:serving:request_count"


def _make_buckets(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """Limits of Serving's exponential buckets, with the six digits that it prints."""
    return tuple(float(f"{scale * growth**power:.6g}") for power in range(count))


#: As in Serving's `servables/tensorflow/util.cc`.
LATENCY_BUCKETS_US = _make_buckets(10, 1.8, 33)
#: As in its `batching/batching_session.cc`.
_QUEUING_BUCKETS_US = _make_buckets(100, 1.2, 52)
_BATCH_THREADS = "model_server_batch_threads"


class Metrics:
    """Counts and latencies of one server.

    Args:
        model_names: gives the models that are served. A name that is not among them is counted
            as an empty one: names come from clients, and each new one would cost memory.
    """

    def __init__(self, model_names: Callable[[], Sequence[str]]) -> None:
        disable_created_metrics()
        self._model_names = model_names
        self._registry = CollectorRegistry()
        self._requests = Counter(
            _COUNT,
            "The total number of requests.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) of requests that succeeded.",
            ["model_name", "API", "entrypoint"],
            buckets=LATENCY_BUCKETS_US,
            registry=self._registry,
        )
        self._runtime = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Distribution of wall time (in microseconds) of the model and the wait for its batch.",
            ["model_name", "API", "runtime"],
            buckets=LATENCY_BUCKETS_US,
            registry=self._registry,
        )
        self._queuing = Histogram(
            ":tensorflow:serving:batching_session:queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing.",
            ["thread_pool_name"],
            buckets=_QUEUING_BUCKETS_US,
            registry=self._registry,
        )
        self._batch_size = Histogram(
            "esc_tf_serving_batch_rows",
            "Rows of the batches that were run.",
            buckets=[2**power for power in range(11)],
            registry=self._registry,
        )
        self._refused = Counter(
            "esc_tf_serving_refused_requests",
            "Requests that were refused before any work: which limit they met.",
            ["reason"],
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when Prometheus asks."""
        Gauge(f"esc_tf_serving_{name}", text, registry=self._registry).set_function(read)

    def count_request(self, model_name: str, status: str) -> None:
        """Count a request by its canonical code, ``OK`` included."""
        self._requests.labels(self._known(model_name), status).inc()

    def count_refusal(self, reason: str) -> None:
        """Count a request that met a limit, e.g. ``queue_full``."""
        self._refused.labels(reason).inc()

    def record_latency(self, model_name: str, api: str, entrypoint: str, seconds: float) -> None:
        """Record how long a request took that succeeded.

        Args:
            model_name: as in the request.
            api: ``predict``, ``classify`` or ``regress``; in gRPC's spelling for gRPC.
            entrypoint: ``REST`` or ``GRPC``.
            seconds: from its last byte to its reply.
        """
        self._latency.labels(self._known(model_name), api, entrypoint).observe(seconds * 1e6)

    def record_runtime(self, model_name: str, api: str, seconds: float) -> None:
        """Record how long the model itself took."""
        self._runtime.labels(self._known(model_name), api.capitalize(), "TF2").observe(
            seconds * 1e6
        )

    def record_batch(self, run: BatchRun) -> None:
        """Record a batch that was run."""
        self._queuing.labels(_BATCH_THREADS).observe(run.waited_s * 1e6)
        self._batch_size.observe(run.num_rows)

    def render(self) -> bytes:
        """The page that Prometheus reads, in its text format."""
        # The client adds `_total` to every counter; Serving's has the name without it.
        return generate_latest(self._registry).replace(_COUNT.encode() + b"_total", _COUNT.encode())

    def _known(self, model_name: str) -> str:
        return model_name if model_name in self._model_names() else ""
