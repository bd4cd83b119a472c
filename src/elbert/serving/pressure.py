"""Which speed level requests without a wish of their own get: a faster one as the queue grows, and back."""

from __future__ import annotations

import math
from collections.abc import Callable

# Rows that wait for each place, above which the server goes one level up, and below which one level down again.
_CROWDED, _CALM = 2.0, 0.5

# Seconds between two steps up, and between two steps down: fast into the rush, slowly out of it.
_UP, _DOWN = 0.1, 1.0


class Pressure:
    """A level that follows the queue, between the usual one and the fastest that the operator allows.

    Args:
        usual: the level while nothing waits.
        fastest: the one never passed; at or below `usual` the level never changes.
        places: rows the model runs at once.
        clock: in seconds.
    """

    def __init__(self, usual: int, fastest: int, places: int, clock: Callable[[], float]) -> None:
        self._usual, self._fastest, self._places, self._clock = usual, max(usual, fastest), places, clock
        self._level = usual
        self._changed = -math.inf  # the first step need not wait

    def level(self, rows: int) -> int:
        """Return the level of a request that comes while so many rows wait or run."""
        waiting = max(rows - self._places, 0) / self._places
        since = self._clock() - self._changed
        if waiting > _CROWDED and self._level < self._fastest and since >= _UP:
            self._change(1)
        elif waiting < _CALM and self._level > self._usual and since >= _DOWN:
            self._change(-1)
        return self._level

    def _change(self, by: int) -> None:
        self._level += by
        self._changed = self._clock()
