"""What is counted, as Prometheus metrics in a registry of this service's own. Nothing leaves unless somebody scrapes it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value read when somebody asks: one alone (under ""), or one for each value of a label."""

    name: str
    help: str
    values: Mapping[str, float]
    label: str | None = None


class Telemetry:
    """Counters and histograms; gauges are read from `gauges` when scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "reid_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self._latency = Histogram(
            "reid_request_seconds", "Time from request to answer.", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self._stages = Histogram(
            "reid_stage_seconds", "Time by stage of a request.", ("stage",), buckets=_SECONDS, registry=self.registry
        )
        self._batches = Histogram(
            "reid_batch_crops", "Crops in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self._dropped = Counter(
            "reid_dropped_crops",
            "Crops that reached no device: refused, departed with their client, expired, failed with their request.",
            ("why",),
            registry=self.registry,
        )
        self._waited = Histogram("reid_queue_seconds", "Time a crop waited.", buckets=_SECONDS, registry=self.registry)
        self._inferred = Histogram("reid_infer_seconds", "Time a batch ran.", buckets=_SECONDS, registry=self.registry)

    def batch(self, size: int, waited_s: Sequence[float], infer_s: float) -> None:
        """The engine ran a batch."""
        self._batches.observe(size)
        self._inferred.observe(infer_s)
        for seconds in waited_s:
            self._waited.observe(seconds)

    def dropped(self, why: str, crops: int) -> None:
        """Crops left the engine, or were turned away, before a device had them."""
        self._dropped.labels(why).inc(crops)

    def request(self, route: str, status: int, seconds: float, stages_ms: Mapping[str, float]) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)
        for stage, ms in stages_ms.items():
            self._stages.labels(stage).observe(ms / 1000)

    def watch(self, gauges: Callable[[], Iterable[Gauge]]) -> None:
        """Read these gauges at every scrape."""
        self.registry.register(_Gauges(gauges))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Gauges:
    def __init__(self, read: Callable[[], Iterable[Gauge]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """One family per gauge."""
        for gauge in self._read():
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=(gauge.label,) if gauge.label else None)
            for label, value in gauge.values.items():
                family.add_metric((label,) if gauge.label else (), value)
            yield family
