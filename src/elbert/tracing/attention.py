"""What [CLS] looks at in every layer. Decides nothing: answers come from the scheduler, this is for people to look at.

The fused attention of a step never holds its weights, so a look-out beside the formula works them out, from the very
queries and keys of the layers that answer, in their own precision.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from elbert.engine.backends.torch import TorchBackend
from elbert.engine.layers.float import Prepared, TorchOps
from elbert.engine.layers.formula import forward
from elbert.engine.requests import Arrival
from elbert.engine.rows.packed import Layout


class _Looking(TorchOps):
    """Computes a layer of one text and keeps what its first token looks at."""

    row: Tensor

    def attention(self, qkv: Tensor, layer: Prepared, rows: Layout) -> Tensor:
        self.row = layer.attention.first_row(qkv[: rows.tokens])
        return super().attention(qkv, layer, rows)


@torch.inference_mode()
def cls_attention(backend: TorchBackend, arrival: Arrival, skipped: Collection[int] = ()) -> Tensor:
    """Return the attention from [CLS] to each token, averaged over heads, [M, tokens] fp32; every row adds up to 1.

    Where a layer holds several inner layers (ALBERT), the row is their mean. At full depth, whatever the policy.
    Source: the visualisation of Xie et al., "ELBERT", ICASSP 2021, before its sum over depth.

    Args:
        backend: the model, prepared.
        arrival: one tokenised text.
        skipped: layers, 1-based, that it skips; the row of the layer before is repeated there.
    """
    layout = Layout(np.array([len(arrival.ids)]), backend.device)
    types = None if arrival.token_types is None else layout.packed([arrival.token_types])
    hidden = backend.embed(layout.packed([arrival.ids]), types, layout)  # [size, H]
    looking, steps = _Looking(), list[Tensor]()
    for depth, group in enumerate(backend.layers, start=1):
        if depth in skipped:
            steps.append(steps[-1])
            continue
        rows = []
        for layer in group:
            hidden = forward(looking, layer.spec, layer, hidden, layout)
            rows.append(looking.row)
        steps.append(torch.stack(rows).mean(0))
    return torch.stack(steps).cpu()
