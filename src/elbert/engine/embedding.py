"""Texts become rows that have run no layer: their tokens are embedded, and the memory of their policies begins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elbert.engine.backends.backend import Backend
from elbert.engine.deciding import failure
from elbert.engine.requests import Arrival, Failure
from elbert.engine.rows.memory import Memory
from elbert.engine.rows.packed import Layout, Rows
from elbert.exits import ExitPolicy
from elbert.modeling.weights import EncoderWeights
from elbert.words import WordModel


class Embedder:
    """Makes rows of texts.

    Args:
        weights: the model.
        backend: embeds.
        policy: of texts that bring none of their own.
        words: layer 0, for what it adds to all exits; None where the model has none.
    """

    def __init__(self, weights: EncoderWeights, backend: Backend, policy: ExitPolicy, words: WordModel | None) -> None:
        self._weights, self._backend, self._policy, self._words = weights, backend, policy, words

    def embed(self, arrivals: Sequence[Arrival], came: int) -> tuple[list[Rows], list[Failure]]:
        """Return texts as rows, and those for which the backend raises, found by halves, as failed.

        Args:
            arrivals: at least one.
            came: texts that came before them.
        """
        try:
            return [self._rows(arrivals, came)], []
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the other rows
            if len(arrivals) == 1:
                index = arrivals[0].index
                return [], [Failure(index, failure(index, "the embedding", error))]
        half = len(arrivals) // 2
        first, second = self.embed(arrivals[:half], came), self.embed(arrivals[half:], came)
        return first[0] + second[0], first[1] + second[1]

    def _rows(self, arrivals: Sequence[Arrival], came: int) -> Rows:
        count, layers = len(arrivals), self._weights.num_layers
        none = np.zeros(count, np.int64)
        layout = Layout(np.array([len(arrival.ids) for arrival in arrivals]), self._backend.device)
        ids = layout.packed(arrival.ids for arrival in arrivals)
        types = None
        if any(arrival.token_types for arrival in arrivals):
            types = layout.packed(arrival.token_types or [0] * len(arrival.ids) for arrival in arrivals)
        return Rows(
            hidden=self._backend.embed(ids, types, layout),
            layout=layout,
            length=layout.lengths,
            index=np.array([arrival.index for arrival in arrivals]),
            arrived=np.arange(came, came + count),
            depth=none,
            ran=none,
            last=np.array([arrival.last_layer or layers for arrival in arrivals]),
            memory=Memory.start(
                [arrival.policy or self._policy for arrival in arrivals], layers, self._weights.num_labels
            ),
            added=None if self._words is None else self._words.added([each.read_by_words for each in arrivals]),
        )
