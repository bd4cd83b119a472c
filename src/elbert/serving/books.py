"""What is counted of every text that leaves a model. Lives in the event loop alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from elbert.classifier import Classifier
from elbert.serving.budgets import Budgets
from elbert.serving.feedback import Feedback
from elbert.serving.ladder import Ladder
from elbert.serving.metrics import Metrics
from elbert.serving.refusals import overloaded
from elbert.serving.rows import Answer, Row
from elbert.serving.settings import ServeSettings

# Weight of the newest text in the running mean of how long one keeps the model busy.
_NEWEST = 0.05


class Books:
    """The books of one model.

    Args:
        name: that requests call it by.
        classifier: the model.
        ladder: its speed levels.
        settings: the server's.
        metrics: likewise.
        clock: in seconds.

    Attributes:
        rows: texts that wait or run.
        tokens: of these.
        row_seconds: how long a text keeps the model busy, a running mean.
        budgets: of the keys.
        feedback: what full depth said of early answers.
    """

    def __init__(
        self,
        name: str,
        classifier: Classifier,
        ladder: Ladder,
        settings: ServeSettings,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._name, self._classifier, self._ladder = name, classifier, ladder
        self._places, self._metrics = settings.max_batch_requests, metrics
        # What is counted of every text is found by its labels once.
        self._rows_in_flight = metrics.rows_in_flight.labels(name)
        self._queue_tokens = metrics.queue_tokens.labels(name)
        self._stages = {stage: metrics.stage_seconds.labels(name, stage) for stage in ("tokenise", "queue", "compute")}
        self._exit_layer = metrics.exit_layer.labels(name)
        self._layers_run, self._layers_saved = metrics.layers_run.labels(name), metrics.layers_saved.labels(name)
        self._most_tokens = settings.max_queue_tokens
        self.rows = self.tokens = 0
        self.row_seconds = 0.0
        self.budgets = Budgets(name, classifier.num_layers, settings, metrics, clock)
        self.feedback = Feedback(name, classifier.calibration, metrics)

    def count(self, rows: int, tokens: int) -> None:
        """Note that so many texts came, or left where the numbers are negative."""
        self.rows += rows
        self.tokens += tokens
        self._rows_in_flight.set(self.rows)
        self._queue_tokens.set(self.tokens)

    def check_room(self, tokens: int) -> None:
        """Raise Refusal where so many tokens more find no room among those that wait or run."""
        if self.tokens and self.tokens + tokens > self._most_tokens:
            wait = math.ceil(self.rows * self.row_seconds)
            raise overloaded(f"{self.tokens} tokens are waiting; allowed: {self._most_tokens}", min(max(wait, 1), 60))

    def tokenised(self, seconds: float) -> None:
        """Note how long a request's texts took to become tokens."""
        self._stages["tokenise"].observe(seconds)

    def left(self, row: Row) -> None:
        """Note what became of a text."""
        answer, metrics = row.outcome, self._metrics
        if row.early is not None:
            if isinstance(answer, Answer):
                both = torch.tensor([row.early, answer.probs])
                (early, _), (late, _) = self._classifier.task.answers(both, self._classifier.labels.names)
                self.feedback.note(row.policy_name, early == late)
            return
        if not isinstance(answer, Answer):
            metrics.failed.labels(self._name).inc()
            return
        expected = None if row.level is None else self._ladder.mean_exit_layers[row.level]
        self.budgets.left(row.key, answer.exit_layer, answer.cause, expected)
        self.row_seconds += _NEWEST * (answer.computed / self._places - self.row_seconds)
        self._stages["queue"].observe(answer.queued)
        self._stages["compute"].observe(answer.computed)
        metrics.texts.labels(self._name, row.policy_name, answer.cause).inc()
        self._exit_layer.observe(answer.exit_layer)
        self._layers_run.inc(answer.exit_layer)
        self._layers_saved.inc(self._classifier.num_layers - answer.exit_layer)
