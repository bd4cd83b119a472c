"""What each key may cost: a budget of layers, and a look at how deep its texts go, against slowdown attacks.

Texts can be made to leave nowhere, so that each costs full depth. A ceiling for every text bounds one text; these
budgets bound a stream of them, and leave other keys alone. Source of the attack: Coalson et al., "BERT Lost Patience
Won't Be Robust to Adversarial Slowdown", NeurIPS 2023 (WAFFLE).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from elbert.engine.requests import Cause
from elbert.serving.metrics import Metrics
from elbert.serving.refusals import overloaded
from elbert.serving.settings import ServeSettings

_log = logging.getLogger("elbert.serving")

# Texts at full depth that a key may have saved up for, and seconds of its layers per second.
_SAVED_TEXTS, _SAVED_SECONDS = 8, 10.0

# Weight of the newest text in a key's running mean, and texts before anything is made of it.
_NEWEST, _FEWEST = 0.005, 100

# How many times as deep as calibrated a key's texts go before it is called abnormal, and until it no longer is.
_ABNORMAL, _NORMAL = 2.0, 1.5


class KeyBudget:
    """Two buckets of layers of one key: one that fills by the text, one that fills by the second.

    Layers are taken out when a text leaves, so texts under way at once may overdraw them; what is overdrawn is made up
    for by those that come later.

    Args:
        layers: M of the model.
        per_text: layers a text may run in the mean; None for no such limit.
        per_second: layers all texts may run in a second; None likewise.
        clock: in seconds.
    """

    def __init__(
        self, layers: int, per_text: float | None, per_second: float | None, clock: Callable[[], float]
    ) -> None:
        self._per_text, self._per_second, self._clock = per_text, per_second, clock
        self._most_by_text = float(_SAVED_TEXTS * layers)
        self._by_text = self._most_by_text
        self._by_second = 0.0 if per_second is None else per_second * _SAVED_SECONDS
        self._filled = clock()

    def check(self) -> None:
        """Let a request in.

        Raises:
            Refusal: the layers of this second are spent, 429.
        """
        if self._per_second is None:
            return
        now = self._clock()
        grown = self._by_second + (now - self._filled) * self._per_second
        self._by_second, self._filled = min(grown, self._per_second * _SAVED_SECONDS), now
        if self._by_second <= 0:
            wait = math.ceil(-self._by_second / self._per_second) + 1
            line = f"the key has spent its layers; allowed: {self._per_second:g} a second: come again later"
            raise overloaded(line, min(wait, 60))

    def ceiling(self, last: int) -> int:
        """Return the layers that the key's next text may run, from 1 to `last`."""
        if self._per_text is None:
            return last
        self._by_text = min(self._by_text + self._per_text, self._most_by_text)
        return max(1, min(last, math.floor(self._by_text)))

    def spend(self, layers: int) -> None:
        """Take out what a text has run."""
        self._by_second -= layers
        if self._per_text is not None:
            self._by_text -= layers


class Budgets:
    """The budgets of all keys at one model, and how deep each key's texts go. Lives in the event loop alone.

    A key goes by its number in the operator's list; everybody at an open server shares number 0.

    Args:
        model: its name.
        layers: M of it.
        settings: the server's.
        metrics: likewise.
        clock: in seconds.
    """

    def __init__(
        self, model: str, layers: int, settings: ServeSettings, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        self._model, self._layers, self._metrics = model, layers, metrics
        count = max(len(settings.api_keys), 1)
        limits = (settings.key_layers_per_text, settings.key_layers_per_second)
        self._own = KeyBudget(layers, None, None, clock)
        self._budgets = [KeyBudget(layers, *limits, clock) for _ in range(count)]
        self._depths = [1.0] * count
        self._seen = [0] * count
        self._abnormal = [False] * count

    def of(self, key: int | None) -> KeyBudget:
        """Return the budget of a key; without limits where it is None, the server itself."""
        return self._own if key is None else self._budgets[key]

    def left(self, key: int | None, ran: int, cause: Cause, expected: float | None) -> None:
        """Note that a text of this key has left.

        Args:
            key: its number; None for the server's own texts.
            ran: layers the text ran.
            cause: why it left; one that a ceiling ended would have gone on, and counts as if it had.
            expected: mean exit layer of its level where that was calibrated; None where nobody knows it.
        """
        self.of(key).spend(ran)
        if key is None or expected is None:
            return
        depth = (self._layers if cause == "budget" else ran) / max(expected, 1.0)
        self._seen[key] += 1
        self._depths[key] += max(_NEWEST, 1 / self._seen[key]) * (depth - self._depths[key])
        self._metrics.key_depth.labels(self._model, str(key)).set(self._depths[key])
        self._judge(key)

    def _judge(self, key: int) -> None:
        was = self._abnormal[key]
        now = self._seen[key] >= _FEWEST and self._depths[key] > (_NORMAL if was else _ABNORMAL)
        if now == was:
            return
        self._abnormal[key] = now
        self._metrics.key_abnormal.labels(self._model, str(key)).set(int(now))
        if now:
            _log.warning(
                "model %s: texts of key %d go %.1f times as deep as those of the calibration: other texts, or a "
                "slowdown attack; limits: --max-layers, --key-layers-per-text, --key-layers-per-second",
                self._model,
                key,
                self._depths[key],
            )
