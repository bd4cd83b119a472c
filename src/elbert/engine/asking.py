"""What the exits say of rows that just ran a layer, brought to the host; those nobody can leave at are not computed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from elbert.engine.backends.backend import Backend
from elbert.engine.deciding import Bools, Said, to_ask
from elbert.engine.recorder import Watcher
from elbert.engine.rows.blocks import Integers
from elbert.engine.rows.packed import Rows
from elbert.modeling.weights import EncoderWeights
from elbert.results import ExitOutput
from elbert.tasks import task_of


class Exits:
    """The exits of a model.

    Args:
        weights: the model.
        backend: runs the heads.
        recorder: if given, is shown what every exit says.
    """

    def __init__(self, weights: EncoderWeights, backend: Backend, recorder: Watcher | None) -> None:
        self._weights, self._backend, self._recorder = weights, backend, recorder
        self._reads_mean = np.array([head.reads_mean for head in weights.heads])
        self._eps = next((head.token_eps for head in weights.heads if head.reads_mean), None)

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
        depth = rows.depth if everyone else rows.depth[asked]
        logits, pooled = self._heads(self._read(rows, asked, depth), depth)
        if rows.added is not None:
            logits = logits.cpu() + torch.from_numpy(rows.added if everyone else rows.added[asked])
        if self._recorder is not None:
            self._recorder.write(rows, logits, pooled)
        kind, said = self._weights.problem_type, logits.cpu().numpy()
        needed = any("pooled" in group.policy.needs for group in rows.memory.groups)
        read = pooled.cpu().numpy() if needed else None
        return Said(asked, ExitOutput(task_of(kind).probabilities(said), said, read, kind))

    def _read(self, rows: Rows, asked: Integers, depth: Integers) -> Tensor:
        """Return [n, H], what the exits at `depth` read of the rows `asked`: the state of [CLS], or the mean."""
        over_all = self._reads_mean[depth - 1]
        if over_all.all():
            return rows.layout.means(rows.hidden, asked, self._eps)
        if rows.count == 1:
            return rows.hidden[:1]
        first = rows.layout.starts if len(asked) == rows.count else rows.layout.starts[asked]
        read = rows.hidden.index_select(0, first)
        if over_all.any():
            read = read.float()
            read[over_all] = rows.layout.means(rows.hidden, asked[over_all], self._eps)
        return read

    def _heads(self, read: Tensor, depth: Integers) -> tuple[Tensor, Tensor]:
        """Return (logits, pooled) of each row's own exit, the one behind the layer before `depth`."""
        if self._backend.shared_heads:
            return self._backend.head(read, 0)
        depths = np.unique(depth).tolist()
        if len(depths) == 1:
            return self._backend.head(read, depths[0] - 1)
        logits = read.new_empty(len(read), self._weights.num_labels, dtype=torch.float32)
        pooled = read.new_empty(read.shape, dtype=torch.float32)
        for each in depths:
            here = torch.from_numpy(np.flatnonzero(depth == each)).to(read.device)
            logits[here], pooled[here] = self._backend.head(read[here], each - 1)
        return logits, pooled
