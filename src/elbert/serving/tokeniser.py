"""Texts to tokens: short ones in the event loop, long ones in a thread beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from elbert.classifier import Classifier
from elbert.data import Text
from elbert.engine.requests import Arrival
from elbert.errors import ElbertError
from elbert.serving.refusals import invalid
from elbert.tracing.reading import Reading

_Read = TypeVar("_Read")

_log = logging.getLogger("elbert.serving")

# Characters from which on a request is tokenised beside the event loop, which would stand still too long.
_LONG = 4096


class Tokeniser:
    """Reads texts as one model does.

    Args:
        classifier: the model.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="elbert-tokeniser")

    async def read(self, texts: Sequence[Text]) -> tuple[list[Arrival], list[bool]]:
        """Return texts as arrivals in their order, and whether each was cut off.

        Raises:
            UsageError: something is no text.
            Refusal: the tokenizer failed.
        """
        return await self._run(texts, partial(_arrivals, self._classifier, texts))

    async def read_for_trace(self, text: Text) -> Reading:
        """Return one text as a trace takes it.

        Raises:
            UsageError: it is no text, or the model cannot be traced.
            Refusal: the tokenizer failed.
        """
        return await self._run([text], partial(self._classifier.reading, text))

    async def _run(self, texts: Sequence[Text], reads: Callable[[], _Read]) -> _Read:
        length = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)
        if length <= _LONG and self._classifier.tokenises_in_threads:
            return _guarded(reads)
        return await asyncio.get_running_loop().run_in_executor(self._thread, _guarded, reads)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def _arrivals(classifier: Classifier, texts: Sequence[Text]) -> tuple[list[Arrival], list[bool]]:
    truncated: dict[int, bool] = {}
    arrivals = sorted(classifier.arrivals(texts, truncated), key=lambda arrival: arrival.index)
    return arrivals, [truncated[place] for place in range(len(arrivals))]


def _guarded(reads: Callable[[], _Read]) -> _Read:
    """Return what is read; whatever the tokenizer raises is one request's fault."""
    try:
        return reads()
    except (ElbertError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a panic of the tokenizer is no Exception, and this request's alone
        _log.error("a request's texts could not be tokenised", exc_info=error)
        raise invalid(f"the text could not be tokenised: {type(error).__name__}") from None
