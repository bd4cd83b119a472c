"""Tokens dropped in a training pass, as the engine drops them later: row by row, behind a layer, the least attended.

B rows of S padded tokens, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from elbert.exits.tokens import TokenSchedule
from elbert.modeling.families import Family

Behind = Callable[[Tensor, Tensor | None, int], tuple[Tensor, Tensor | None]]


@contextmanager
def token_dropping(
    family: Family, backbone: nn.Module, tokens: TokenSchedule, shape: tuple[int, int], attention_mask: Tensor | None
) -> Iterator[Behind]:
    """Give what drops tokens behind a layer: (hidden, mask, depth) -> the hidden states and the mask that are left.

    Queries and keys are overheard from the layers' own modules, so whatever kernel computes the attention may do so.
    Behind a layer that was left out nothing is dropped; the next one makes up for it.

    Args:
        family: the backbone's family; its layers may not look at distances between tokens.
        backbone: transformers' classifier.
        tokens: what to keep, ranked by attention received.
        shape: (B, S).
        attention_mask: [B, S], 1 for a token; None where nothing is padded.
    """
    config: Any = backbone.config
    steps = family.layer_names(config)
    lengths = np.full(shape[0], shape[1]) if attention_mask is None else attention_mask.sum(1).cpu().numpy()
    heard: dict[str, Tensor] = {}
    hooks = [
        backbone.get_submodule(f"{layer}.{part}").register_forward_hook(
            lambda _module, _inputs, output, name=f"{layer}.{part}": heard.update({name: output.detach()})
        )
        for layer in {names[-1] for names in steps}
        for part in family.layer.qkv[:2]
    ]

    def behind(hidden: Tensor, mask: Tensor | None, depth: int) -> tuple[Tensor, Tensor | None]:
        states = [heard.pop(f"{steps[depth - 1][-1]}.{part}", None) for part in family.layer.qkv[:2]]
        query, key = states
        kept = tokens.kept(lengths, np.full_like(lengths, depth))
        real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device) if mask is None else mask.bool()
        if query is None or key is None or (kept >= real.sum(1).cpu().numpy()).all():
            return hidden, mask
        received = _received(query, key, family.spec(config, depth - 1).heads, real)
        return _best(hidden, received, real, torch.from_numpy(kept).to(hidden.device))

    try:
        yield behind
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _received(query: Tensor, key: Tensor, heads: int, real: Tensor) -> Tensor:
    """Return how much attention each token received from its row's, added up over heads and queries, [B, S].

    Args:
        query: [B, S, H].
        key: [B, S, H].
        heads: of the layer.
        real: [B, S], whether it is a token and no padding.
    """
    query, key = (each.float().unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key))
    scores = query @ key.mT * query.shape[-1] ** -0.5  # [B, heads, S, S]
    weights = scores.masked_fill(~real[:, None, None], -torch.inf).softmax(-1)
    received: Tensor = (weights * real[:, None, :, None]).sum((1, 2))
    return received


def _best(hidden: Tensor, received: Tensor, real: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states [B, S', H] of each row's best tokens, in their order, and their mask [B, S'].

    Args:
        hidden: [B, S, H].
        received: [B, S]; of equals the earlier is better, and each row's first is better than all.
        real: [B, S].
        kept: [B] tokens to keep, where a row has so many.
    """
    length = hidden.shape[1]
    ranked = received.masked_fill(~real, -torch.inf)
    ranked[:, 0] = torch.inf
    kept = torch.minimum(kept, real.sum(1))
    best = ranked.argsort(dim=1, descending=True, stable=True)[:, : int(kept.max())]
    best = best.where(torch.arange(best.shape[1], device=best.device) < kept[:, None], length).sort(1).values
    left = best < length
    places = best.clamp(max=length - 1)[..., None].expand(-1, -1, hidden.shape[-1])
    return hidden.gather(1, places), left.long()
