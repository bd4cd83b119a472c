"""What a server counts, for Prometheus. No text, no key and no other word of a request is ever a label."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAYERS = (0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 24, 36, 48)


class Metrics:
    """The counters of one server, in a registry of its own.

    Attributes:
        registry: all of them.
        requests: by route and status.
        request_seconds: from the first byte of the body to the answer, by route.
        stage_seconds: by model and stage: tokenise, queue, compute.
        texts: answered, by model, policy and cause.
        exit_layer: layers a text ran, by model.
        layers_run: by model.
        layers_saved: that full depth would have run beside, by model.
        rows_in_flight: texts that wait or run, by model.
        queue_tokens: tokens that do.
        failed: texts that could not be answered, by model.
        feedback: early answers compared with full depth, by model, policy and whether both agree.
        agreement: share of a level's last early answers that were those of full depth, by model and policy.
        drift: 1 where that is less than its calibration led to expect, likewise.
        key_depth: how many times as deep as calibrated a key's texts go in the mean, by model and number of the key.
        key_abnormal: 1 where that is far above 1, likewise.
        restarts: exceptions the worker has outlived, by model.
        reloads: by model and outcome: done, failed.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own: dict[str, Any] = {"registry": self.registry, "namespace": "elbert"}
        model = ["model"]
        self.requests = Counter("requests", "Requests.", ["route", "status"], **own)
        self.request_seconds = Histogram("request_seconds", "Requests.", ["route"], buckets=_SECONDS, **own)
        self.stage_seconds = Histogram(
            "stage_seconds", "Stages of a request.", ["model", "stage"], buckets=_SECONDS, **own
        )
        self.texts = Counter("texts", "Texts answered.", ["model", "policy", "cause"], **own)
        self.exit_layer = Histogram("exit_layer", "Layers a text ran.", model, buckets=_LAYERS, **own)
        self.layers_run = Counter("layers_run", "Layers run.", model, **own)
        self.layers_saved = Counter("layers_saved", "Layers that full depth would have run beside.", model, **own)
        self.rows_in_flight = Gauge("rows_in_flight", "Texts that wait or run.", model, **own)
        self.queue_tokens = Gauge("queue_tokens", "Tokens that wait or run.", model, **own)
        self.failed = Counter("texts_failed", "Texts that could not be answered.", model, **own)
        self.feedback = Counter(
            "feedback", "Early answers compared with full depth.", ["model", "policy", "agrees"], **own
        )
        level = ["model", "policy"]
        self.agreement = Gauge("agreement", "Early answers that were those of full depth.", level, **own)
        self.drift = Gauge("drift", "Early answers agree less than calibration led to expect.", level, **own)
        key = ["model", "key"]
        self.key_depth = Gauge("key_depth", "Depth of a key's texts, in mean exit layers as calibrated.", key, **own)
        self.key_abnormal = Gauge("key_abnormal", "A key's texts go far deeper than calibrated.", key, **own)
        self.restarts = Gauge("worker_restarts", "Exceptions the worker has outlived.", model, **own)
        self.reloads = Counter("reloads", "Models loaded anew.", ["model", "outcome"], **own)
