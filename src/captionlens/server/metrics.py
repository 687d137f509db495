"""Prometheus metrics of the service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The metrics of one service, in a registry of their own: two services in one process do not mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "captionlens_requests", "Answers by route and status.", ["route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "captionlens_request_seconds", "From the head of a request to its answer.", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.part_seconds = Histogram(
            "captionlens_part_seconds",
            "Parts of the work: upload, decode, wait (of a photograph), encode, search (of a batch), examine, figure.",
            ["part"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_photographs = Histogram(
            "captionlens_batch_photographs", "Photographs that were captioned together.",
            buckets=(1, 2, 4, 8, 16, 32), registry=registry,
        )  # fmt: skip
        self.captions = Counter("captionlens_captions", "Photographs captioned.", registry=registry)
        self.rejected = Counter(
            "captionlens_rejected", "Requests refused, by type of problem.", ["problem"], registry=registry
        )
        self.cancelled = Counter(
            "captionlens_cancelled", "Photographs given up because nobody waits for them any more.", registry=registry
        )
        self.queue_places = Gauge(
            "captionlens_queue_places",
            "Places of the queue that are taken; what is worked on counts.",
            registry=registry,
        )
        self.queue_limit = Gauge("captionlens_queue_limit", "Places the queue has.", registry=registry)
        self.ready = Gauge("captionlens_ready", "1 while photographs are taken.", registry=registry)
        ProcessCollector(registry=registry)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
