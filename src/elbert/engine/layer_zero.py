"""Layer 0: texts that a bag of their words is sure of leave before they are embedded, and wait for nobody's place."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from elbert.engine.requests import Arrival
from elbert.exits import ExitPolicy
from elbert.exits.words import by_words
from elbert.results import ProblemType
from elbert.tasks import task_of
from elbert.words import WordModel, packed

Floats = NDArray[np.float32]

_TIMED_AT_ONCE = 32


def bag(texts: Sequence[Arrival]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the token ids of texts one behind the other, and how many each has, as a word model takes them."""
    return packed([text.read_by_words for text in texts])


def seconds_of_words(words: WordModel, texts: Sequence[Arrival]) -> float:
    """Return the seconds that layer 0 takes for tokenised texts, some at once."""
    begun = time.perf_counter()
    for start in range(0, len(texts), _TIMED_AT_ONCE):
        words.logits(*bag(texts[start : start + _TIMED_AT_ONCE]))
    return time.perf_counter() - begun


class LayerZero:
    """Texts that were admitted and are still to be looked at, and those that leave.

    Args:
        words: the word model; None lets every text through.
        policy: whose threshold counts for texts that bring no policy of their own.
        problem_type: how to read the logits.
    """

    def __init__(self, words: WordModel | None, policy: ExitPolicy, problem_type: ProblemType) -> None:
        self._words = words
        self._policy = policy
        self._task = task_of(problem_type)
        self._fresh: list[Arrival] = []
        self._leaving: dict[int, tuple[Floats, Floats]] = {}  # logits and probabilities by index

    @property
    def fresh(self) -> int:
        """Texts not yet looked at."""
        return len(self._fresh)

    @property
    def leaving(self) -> int:
        """Texts that leave and were not yet taken."""
        return len(self._leaving)

    def add(self, arrival: Arrival) -> bool:
        """Take a text to look at; False where its policy has no threshold for words, so that it goes straight on."""
        if self._words is None or self._threshold(arrival) is None:
            return False
        self._fresh.append(arrival)
        return True

    def sift(self) -> list[Arrival]:
        """Look at all texts taken, and return those that go on, in the order they came."""
        texts, self._fresh = self._fresh, []
        if not texts or self._words is None:
            return texts
        logits = self._words.logits(*bag(texts))
        thresholds = np.array([self._threshold(text) for text in texts])
        probs = self._task.probabilities(logits)
        sure = by_words(probs, self._task, thresholds)
        for place in np.flatnonzero(sure).tolist():
            self._leaving[texts[place].index] = logits[place], probs[place]
        return [text for text, leaves in zip(texts, sure.tolist(), strict=True) if not leaves]

    def remove(self, index: int) -> bool:
        """Forget a text that leaves; False where it isn't one."""
        return self._leaving.pop(index, None) is not None

    def answers(self) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Return (index [n], logits [n, C], probs [n, C]) of the texts that leave; they stay until `clear`."""
        logits, probs = zip(*self._leaving.values(), strict=True)
        return np.array(list(self._leaving)), np.stack(logits), np.stack(probs)

    def clear(self) -> None:
        """Forget the texts that leave: they were told."""
        self._leaving.clear()

    def _threshold(self, arrival: Arrival) -> float | None:
        return (arrival.policy or self._policy).words
