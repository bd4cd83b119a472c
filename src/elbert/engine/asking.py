"""What the exits say of rows that just ran a layer, brought to the host; those nobody can leave at are not computed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from elbert.engine.backends.backend import Backend
from elbert.engine.deciding import Bools, Said, to_ask
from elbert.engine.recorder import Recorder
from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.packed import Rows
from elbert.exits.scores import probabilities
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput


class Exits:
    """The exits of a model.

    Args:
        weights: the model.
        backend: runs the heads.
        recorder: if given, is shown what every exit says.
    """

    def __init__(self, weights: EncoderWeights, backend: Backend, recorder: Recorder | None) -> None:
        self._weights, self._backend, self._recorder = weights, backend, recorder

    def ask(self, rows: Rows, hurried: Bools | None) -> Said | None:
        """Return what the exits say of rows, at those where somebody can leave; None where nobody can.

        Args:
            rows: they have just run a layer.
            hurried: [rows] who is to leave at once; None for nobody.
        """
        asked = to_ask(rows, hurried) if self._recorder is None else np.arange(rows.count)
        if not len(asked):
            return None
        everyone = len(asked) == rows.count
        if rows.count == 1:
            cls = rows.hidden[:1]
        else:
            cls = rows.hidden.index_select(0, rows.layout.starts if everyone else rows.layout.starts[asked])
        logits, pooled = self._heads(cls, rows.depth if everyone else rows.depth[asked])
        if self._recorder is not None:
            self._recorder.write(rows, logits, pooled)
        kind, said = self._weights.problem_type, logits.cpu().numpy()
        needed = any("pooled" in group.policy.needs for group in rows.memory.groups)
        read = pooled.cpu().numpy() if needed else None
        return Said(asked, ExitOutput(probabilities(said, kind), said, read, kind))

    def _heads(self, cls: Tensor, depth: Integers) -> tuple[Tensor, Tensor]:
        """Return (logits, pooled) of each row's own exit, the one behind the layer before `depth`."""
        if self._backend.shared_heads:
            return self._backend.head(cls, 0)
        depths = np.unique(depth).tolist()
        if len(depths) == 1:
            return self._backend.head(cls, depths[0] - 1)
        logits = cls.new_empty(len(cls), self._weights.num_labels, dtype=torch.float32)
        pooled = cls.new_empty(cls.shape, dtype=torch.float32)
        for each in depths:
            here = torch.from_numpy(np.flatnonzero(depth == each)).to(cls.device)
            logits[here], pooled[here] = self._backend.head(cls[here], each - 1)
        return logits, pooled
