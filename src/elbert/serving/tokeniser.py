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
from elbert.engine.tokens import Reading
from elbert.errors import ElbertError
from elbert.serving.refusals import invalid, overloaded

_Read = TypeVar("_Read")

_log = logging.getLogger("elbert.serving")

# Characters from which on a request is tokenised beside the event loop, which would stand still too long.
_LONG = 4096

# Bodies of the greatest size whose characters may wait to be tokenised, or as many of smaller ones.
_WAITING = 4


def characters(texts: Sequence[Text]) -> int:
    """Return how many characters texts have together."""
    return sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)


def is_long(texts: Sequence[Text]) -> bool:
    """Tell whether texts are tokenised beside the event loop, so that their client may go meanwhile."""
    return characters(texts) > _LONG


class Tokeniser:
    """Reads texts as one model does. Lives in the event loop, but for what its thread does.

    Args:
        classifier: the model.
        limit: bytes that one body may have.
    """

    def __init__(self, classifier: Classifier, limit: int) -> None:
        self._classifier = classifier
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="elbert-tokeniser")
        self._most, self._waiting = _WAITING * limit, 0

    async def read(self, texts: Sequence[Text], seconds: float | None = None) -> tuple[list[Arrival], list[bool]]:
        """Return texts as arrivals in their order, and whether each was cut off.

        Args:
            texts: of one request.
            seconds: that it may take; None for as long as it takes.

        Raises:
            UsageError: something is no text.
            Refusal: the tokenizer failed, or too many texts wait for it.
        """
        return await self._run(texts, partial(_arrivals, self._classifier, texts), seconds)

    async def read_for_trace(self, text: Text) -> Reading:
        """Return one text as a trace takes it.

        Raises:
            UsageError: it is no text, or the model cannot be traced.
            Refusal: the tokenizer failed, or too many texts wait for it.
        """
        return await self._run([text], partial(self._classifier.reading, text), None)

    async def _run(self, texts: Sequence[Text], reads: Callable[[], _Read], seconds: float | None) -> _Read:
        length = characters(texts)
        if length <= _LONG:
            return _guarded(reads)
        if self._waiting and self._waiting + length > self._most:
            raise overloaded(f"{self._waiting} characters wait to be tokenised; allowed: {self._most}", 1)
        self._waiting += length
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.get_running_loop().run_in_executor(self._thread, _guarded, reads)
        except TimeoutError:
            raise overloaded("the text was not tokenised in the time that max_latency_ms allows", 1) from None
        finally:
            self._waiting -= length

    async def close(self) -> None:
        """End the thread; who waits for it has gone."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)


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
