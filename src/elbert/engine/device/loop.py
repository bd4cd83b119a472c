"""Continuous depth-wise batching without asking the host: a device runs rounds, its host only says how many.

For models whose layers are all the same. Texts are read by the window, ordered by length and cut into *legs*, each of
one number of rows and one padded length; rows still in flight at the end of a leg go on in the next, which has longer
places. Who leaves, where the answer goes and which text comes next is decided on the device, see `lane.py`.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from elbert.engine.device.dense import DenseModel
from elbert.engine.device.lane import Lane
from elbert.engine.device.launch import CaptureError, Launcher, Look
from elbert.engine.device.ledger import Ledger, typed
from elbert.engine.device.rule import Rule
from elbert.engine.recorder import Recorder
from elbert.engine.requests import Arrival, Cause, Departures, Door
from elbert.modeling.weights import EncoderWeights
from elbert.tasks import task_of

# Padded lengths, in steps of a quarter to a half; beyond, multiples of the last. All suit the alignment of fp16 masks.
_LENGTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

# When no text waits, rows in flight move to lanes with so many times fewer rows.
_SHRINK = (1, 2, 4, 8)

# Looks at the counters that are under way while the host waits for one: the device always has a round to run.
_AHEAD = 1

# Lanes kept with their graphs; a window needs one per length it holds, and three for its end.
_LANES_KEPT = 24

# Runs texts by the scheduler, which also says on which of them the model fails.
Plain = Callable[[Sequence[Arrival]], Iterable[Departures]]


@dataclass(frozen=True, slots=True)
class Leg:
    """A stretch of a window that runs in one lane.

    Attributes:
        slots: rows of the lane.
        length: places of a row.
        end: the texts before this number are to be started by its end.
    """

    slots: int
    length: int
    end: int


def legs_of(lengths: NDArray[np.int64], batch_size: int, max_tokens: int) -> list[Leg]:
    """Cut a window into legs.

    A leg takes as many texts as fill its rows a whole number of times, the rest goes with the next; after the last, as
    rows fall empty, the same length goes on with fewer rows.

    Args:
        lengths: [texts] tokens of each text, ascending; at least one.
        batch_size: rows at most.
        max_tokens: places of all rows together at most, unless one row alone has more.
    """
    legs: list[Leg] = []
    start, texts = 0, len(lengths)
    for length in _lengths_up_to(int(lengths[-1])):
        end = int(np.searchsorted(lengths, length, side="right"))
        slots = max(1, min(batch_size, max_tokens // length))
        if end < texts:
            end = start + (end - start) // slots * slots
        if end > start:
            legs.append(Leg(slots, length, end))
        start = end
    last = legs[-1]
    rungs = list(dict.fromkeys(-(-last.slots // divisor) for divisor in _SHRINK))
    if len(legs) == 1:  # no rows come from a leg before: start with as few as hold all texts
        rungs = [rung for rung in rungs if rung >= texts][-1:] + [rung for rung in rungs if rung < texts]
    return legs[:-1] + [Leg(slots, last.length, texts) for slots in rungs]


def _lengths_up_to(longest: int) -> Iterator[int]:
    """Yield the padded lengths that rows of up to `longest` tokens need, ascending."""
    for length in _LENGTHS:
        yield length
        if length >= longest:
            return
    yield from range(2 * _LENGTHS[-1], longest + _LENGTHS[-1], _LENGTHS[-1])


class DeviceLoop:
    """Runs texts under one policy; holds the buffers of one window and the lanes it has needed so far.

    Args:
        weights: the model.
        model: the same, ready for blocks.
        rule: who leaves.
        launcher: how work gets onto the device.
        batch_size: rows at most.
        max_tokens: places of all rows together at most, unless one row alone has more.
        window: texts read ahead and ordered together.
        recording: keep what every exit says.

    Attributes:
        rule: who leaves.
        capturable: False once a graph could not be captured; the texts go by the scheduler from then on.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        model: DenseModel,
        rule: Rule,
        launcher: Launcher,
        *,
        batch_size: int,
        max_tokens: int,
        window: int,
        recording: bool,
    ) -> None:
        self._weights, self._model, self._launcher = weights, model, launcher
        self.rule, self.capturable = rule, True
        self._limits = (batch_size, max_tokens)
        self._door = Door(weights)
        self._window = window
        longest = max(_lengths_up_to(weights.max_length))
        self._ledger = Ledger(weights, launcher, model.device, texts=window, longest=longest, recording=recording)
        self._lanes: OrderedDict[tuple[int, int, bool], Lane] = OrderedDict()
        self._started, self._left = 0, 0  # texts of this window, as far as the host knows

    @property
    def lanes(self) -> int:
        """Lanes held, each with its graph."""
        return len(self._lanes)

    def run(self, arrivals: Iterable[Arrival], recorder: Recorder | None, plain: Plain) -> Iterator[Departures]:
        """Let every text run until it leaves; yield a window at a time.

        Args:
            arrivals: read lazily, at most two windows ahead.
            recorder: is given every exit's logits.
            plain: runs the texts of a window that can't go this way.

        Raises:
            UsageError: a text that the model can't read, see `Door`.
        """
        reader = _Reader(arrivals, self._window)
        while texts := reader.take():
            texts.sort(key=lambda text: len(text.ids))
            for text in texts:
                self._door.check(text)
            common = all(text.common for text in texts)
            with torch.inference_mode():
                answers = self._answers(texts, recorder) if common and self._run_window(texts, reader.pull) else None
            if answers is not None:
                yield answers
            else:
                yield from plain(texts)

    def _run_window(self, texts: list[Arrival], meanwhile: Callable[[], bool]) -> bool:
        """Run texts, shortest first; return False where a graph can't be captured or a number was not finite."""
        if not self.capturable:
            return False
        self._ledger.load(texts)
        self._started, self._left = 0, 0
        legs = legs_of(np.array([len(text.ids) for text in texts]), *self._limits)
        with_types = typed(texts)
        lane: Lane | None = None
        try:
            for leg, rest in zip(legs, [*(following.slots for following in legs[1:]), 0], strict=True):
                if self._left == len(texts):
                    break
                lane = self._enter(leg, lane, with_types)
                self._drive(lane, leg.end, rest, meanwhile)
        except CaptureError as error:
            self.capturable = False
            warnings.warn(f"{error}; texts run layer by layer under the host's eyes", RuntimeWarning, stacklevel=2)
            return False
        self._launcher.look(self._ledger.counters)(meanwhile)
        return bool(self._ledger.health.isfinite().all())

    def _enter(self, leg: Leg, before: Lane | None, with_types: bool) -> Lane:
        """Return the leg's lane, with the rows in flight and its first texts in it."""
        key = (leg.slots, leg.length, with_types)
        lane = self._lanes.pop(key, None)
        if lane is None:
            while len(self._lanes) >= _LANES_KEPT:
                self._launcher.settle()  # it may be running still
                self._lanes.popitem(last=False)
            self._ledger.limit.zero_()  # so that nothing starts while it is tried out
            lane = Lane(
                self._model,
                self._ledger,
                self.rule,
                self._launcher,
                slots=leg.slots,
                length=leg.length,
                typed=with_types,
            )
        self._lanes[key] = lane
        if before is None:
            lane.clear()  # of what a run that was given up has left
        else:
            lane.take(before)
        self._ledger.limit.fill_(leg.end)
        lane.admit()
        return lane

    def _drive(self, lane: Lane, end: int, rest: int, meanwhile: Callable[[], bool]) -> None:
        """Run rounds until the texts before `end` are started and at most `rest` rows are in flight.

        A round starts at most as many texts as there are slots, which says how many are needed whatever happens; the
        host looks behind those, and waits only for a look with others behind it.
        """
        if self.rule.constant:
            for _ in range(-(-(end - self._left) // lane.slots)):
                lane.run_round()
            self._started = self._left = end
            return
        looks: deque[tuple[Look, int]] = deque()
        unseen = 0  # rounds launched behind the last look that was read
        while self._started < end or self._started - self._left > rest:
            rounds = max(1, (end - self._started) // lane.slots - unseen)
            for _ in range(rounds):
                lane.run_round()
            unseen += rounds
            looks.append((self._launcher.look(self._ledger.counters), rounds))
            if len(looks) > _AHEAD:
                look, rounds = looks.popleft()
                self._started, self._left = look(meanwhile)
                unseen -= rounds

    def _answers(self, texts: list[Arrival], recorder: Recorder | None) -> Departures:
        """Bring back what became of a window."""
        logits, exit_layer, exits = self._ledger.results(len(texts))
        index = torch.tensor([text.index for text in texts])
        if recorder is not None and exits is not None:
            recorder.logits[index] = exits.cpu()
        exit_layer = exit_layer.to("cpu", copy=True)  # the next window writes where this one did
        causes: tuple[Cause, Cause] = ("rule", "last_layer")
        return Departures(
            index=index,
            exit_layer=exit_layer,
            cause=tuple(causes[layer == self._weights.num_layers] for layer in exit_layer.tolist()),
            logits=logits.to("cpu", copy=True),
            probs=task_of(self._weights.problem_type).probabilities(logits).to("cpu", copy=True),
        )


class _Reader:
    """Reads windows of texts, and the next one while the device is busy with this one."""

    def __init__(self, arrivals: Iterable[Arrival], window: int) -> None:
        self._source = iter(arrivals)
        self._window = window
        self._read: list[Arrival] = []
        self._grad = torch.is_grad_enabled()  # as the source expects it, whatever it is pulled in the middle of

    def pull(self) -> bool:
        """Read one text more; False where the window is full or the source is at its end."""
        if len(self._read) >= self._window:
            return False
        with torch.inference_mode(False), torch.set_grad_enabled(self._grad):
            following = next(self._source, None)
        if following is not None:
            self._read.append(following)
        return following is not None

    def take(self) -> list[Arrival]:
        """Return the next window, empty at the end of the source."""
        while self.pull():
            pass
        texts, self._read = self._read, []
        return texts
