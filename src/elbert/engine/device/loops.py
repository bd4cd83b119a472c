"""Which runs a device can do by itself, and the loops that do them, kept from one run to the next."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from typing import Any

from elbert.engine.backends.backend import Backend
from elbert.engine.backends.torch import TorchBackend
from elbert.engine.device.dense import DenseModel, fits
from elbert.engine.device.launch import Launcher, launcher_for
from elbert.engine.device.loop import DeviceLoop
from elbert.engine.device.rule import Rule, rule_of
from elbert.engine.recorder import Recorder
from elbert.errors import UsageError
from elbert.exits import ExitPolicy
from elbert.modeling.weights import EncoderWeights

# The environment variable that switches the loop on. Off by default: no card has run it yet, see
# benchmarks/device_loop.py.
SWITCH = "ELBERT_CUDA_LOOP"

# Loops kept with their buffers and graphs: a policy and full depth, with and without recording.
_LOOPS_KEPT = 4

# Tokens that the buffer of a window holds at most, a few bytes each.
_WINDOW_TOKENS = 2**25

_Key = tuple[Any, ...]


class DeviceLoops:
    """The loops of one engine. Only one is out at a time, as their graphs share memory.

    Args:
        weights: the model; see `elbert.engine.device.dense.fits`.
        backend: where its matrices lie prepared.
        launcher: how work gets onto its device.
    """

    def __init__(self, weights: EncoderWeights, backend: TorchBackend, launcher: Launcher) -> None:
        self._weights = weights
        self._model = DenseModel(weights, backend)
        self._launcher = launcher
        self._loops: OrderedDict[_Key, DeviceLoop] = OrderedDict()
        self._out = threading.Lock()

    def borrow(
        self, policy: ExitPolicy, *, batch_size: int, max_tokens: int, window: int, recorder: Recorder | None
    ) -> DeviceLoop | None:
        """Return the loop for such a run, to be given back; None where the run has to go by the scheduler.

        Args:
            policy: who leaves where; one that looks at values on the host can't go this way.
            batch_size: rows at most.
            max_tokens: places of all rows together at most.
            window: texts read ahead, fewer where a window would be too large for the device.
            recorder: what it wants of the exits; pooled hidden states can't go this way.
        """
        if recorder is not None and recorder.pooled is not None:
            return None
        rule = rule_of(policy, self._weights, every_exit=recorder is not None)
        described = _described(policy)
        if rule is None or described is None or not self._out.acquire(blocking=False):
            return None
        loop = None
        try:
            if self._capturable(rule):
                key = (type(policy), described, batch_size, max_tokens, recorder is not None)
                loop = self._loops.pop(key, None) or self._new(rule, batch_size, max_tokens, window, recorder)
                self._loops[key] = loop
        finally:
            if loop is None:
                self._out.release()
        return loop

    def give_back(self) -> None:
        """Take back the loop that is out."""
        self._out.release()

    def _capturable(self, rule: Rule) -> bool:
        """Tell whether a loop may try, by those that failed: a rule that asks no policy has failed for all."""
        failed = [loop.rule for loop in self._loops.values() if not loop.capturable]
        return not any(each.constant or type(each.policy) is type(rule.policy) for each in failed)

    def _new(self, rule: Rule, batch_size: int, max_tokens: int, window: int, recorder: Recorder | None) -> DeviceLoop:
        """Return a loop in the place of the one that has not been used for longest; arguments as `borrow`."""
        while len(self._loops) >= _LOOPS_KEPT:
            self._launcher.settle()  # it may be running still
            self._loops.popitem(last=False)
        return DeviceLoop(
            self._weights,
            self._model,
            rule,
            self._launcher,
            batch_size=batch_size,
            max_tokens=max_tokens,
            window=max(1, min(window, _WINDOW_TOKENS // self._weights.max_length)),
            recording=recorder is not None,
        )


def _described(policy: ExitPolicy) -> str | None:
    """Return parameters and weights as text; None where one is not JSON, so that nothing tells two policies apart."""
    weights = hashlib.sha256()
    for name, values in sorted(policy.tensors().items()):
        weights.update(name.encode() + values.tobytes())
    try:
        return f"{json.dumps(policy.to_dict())} {weights.hexdigest()}"
    except (TypeError, ValueError):
        return None


def device_loops(weights: EncoderWeights, backend: Backend) -> DeviceLoops | None:
    """Return the loops for a model on a CUDA device; None where they are off, on a CPU, or if the model does not fit.

    Raises:
        UsageError: the switch says neither 0 nor 1.
    """
    switch = os.environ.get(SWITCH, "0")
    if switch not in ("0", "1"):
        raise UsageError(f"{SWITCH} is {switch!r}; allowed: 0 (texts go by the scheduler) or 1 (by the CUDA loop)")
    if (
        switch == "0"
        or backend.device.type != "cuda"
        or not isinstance(backend, TorchBackend)
        or not fits(weights, backend)
    ):
        return None
    return DeviceLoops(weights, backend, launcher_for(backend.device))
