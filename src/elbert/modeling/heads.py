"""Exit heads: what turns the states of every layer into logits, all exits in one batched product.

Four kinds, chosen when a model is made:

- `shared`: the backbone's own pooler and classifier at every exit. No parameters are added (ELBERT).
- `linear`: the backbone's pooler at every exit, an own Linear at each exit before the last (PABEE).
- `full`: an own pooler and an own Linear at each exit before the last (DeeBERT).
- `mean`: as `full`, and each of them reads the mean over a text's tokens, special tokens included. Layers of their own
  gather little in [CLS] before the last ones, unless they were pretrained to.

The last exit is always the backbone's own head and reads [CLS], so the backbone stays a plain checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from elbert.metadata import HeadKind
from elbert.modeling.activations import activation
from elbert.modeling.families import Family
from elbert.modeling.families.tensors import Tensors
from elbert.modeling.weights import HeadWeights, Matrix


class ExitHeads(nn.Module):
    """The parameters that all kinds but `shared` add: those of exits 1 to M - 1, stacked; copies of the last to start.

    Attributes:
        dense_weight: [M - 1, H, H], or None for `linear`.
        dense_bias: [M - 1, H], or None for `linear` and where the family's own has none.
        out_weight: [M - 1, C, H].
        out_bias: [M - 1, C].
    """

    def __init__(self, kind: HeadKind, exits: int, dense: nn.Linear, out: nn.Linear) -> None:
        super().__init__()
        self.out_weight = nn.Parameter(out.weight.detach().repeat(exits, 1, 1))
        self.out_bias = nn.Parameter(out.bias.detach().repeat(exits, 1))
        if kind != "linear":
            self.dense_weight: nn.Parameter | None = nn.Parameter(dense.weight.detach().repeat(exits, 1, 1))
        else:
            self.register_parameter("dense_weight", None)
        self.dense_bias: nn.Parameter | None = None
        if kind != "linear" and dense.bias is not None:
            self.dense_bias = nn.Parameter(dense.bias.detach().repeat(exits, 1))


def read_states(
    family: Family, backbone: nn.Module, hidden: Tensor, attention_mask: Tensor | None, *, over_all: bool
) -> Tensor:
    """Return [B, H], what an exit reads of hidden states [B, S, H]: the first token's, or with `over_all` the mean.

    A pre-norm encoder's last norm comes before either.
    """
    final_norm = family.head_norms(backbone)[0]
    if not (over_all or family.reads_mean(backbone.config)):
        return hidden[:, 0] if final_norm is None else final_norm(hidden[:, 0])
    return mean_over_tokens(hidden if final_norm is None else final_norm(hidden), attention_mask)


def mean_over_tokens(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Return [B, H], the mean of hidden states [B, S, H] over the tokens that `attention_mask` [B, S] leaves."""
    if attention_mask is None:
        return hidden.mean(1)
    kept = attention_mask.to(hidden.dtype)[..., None]  # [B, S, 1]
    return (hidden * kept).sum(1) / kept.sum(1)


def read_out(family: Family, backbone: nn.Module, exit_heads: ExitHeads | None, read: Tensor) -> tuple[Tensor, Tensor]:
    """Run the head of every exit.

    Args:
        family: the backbone's family.
        backbone: the transformers classifier that owns the last head.
        exit_heads: the heads of the exits before, or None where the last head serves all.
        read: [B, M, H], what each exit reads of the states after its layer, see `read_states`.

    Returns:
        logits [B, M, C] and pooled [B, M, H], the latter before dropout.
    """
    dense, dropout, out = family.head(backbone)
    activate = activation(family.head_act(backbone.config))
    head_norm = family.head_norms(backbone)[1]
    if family.cls_dropout is not None:
        read = backbone.get_submodule(family.cls_dropout)(read)
    if exit_heads is None or exit_heads.dense_weight is None:
        pooled = activate(dense(read))
    else:
        early = _per_exit(read[:, :-1], exit_heads.dense_weight, exit_heads.dense_bias)
        pooled = activate(torch.cat([early, dense(read[:, -1:])], dim=1))
    pooled = pooled if head_norm is None else head_norm(pooled)
    dropped = dropout(pooled)
    if exit_heads is None:
        return out(dropped), pooled
    early = _per_exit(dropped[:, :-1], exit_heads.out_weight, exit_heads.out_bias)
    return torch.cat([early, out(dropped[:, -1:])], dim=1), pooled


def head_weights(
    family: Family, tensors: Tensors, exit_heads: Tensors | None, config: Any, kind: HeadKind
) -> tuple[HeadWeights, ...]:
    """Return every exit's head as plain matrices; the same object wherever a head is shared.

    Args:
        family: the encoder's family.
        tensors: the backbone's, by name.
        exit_heads: those of the exits before the last, by name, see `ExitHeads`; None where the last head serves all.
        config: the model's.
        kind: of the heads.
    """
    given, mean = family.head_weights(tensors, config), family.reads_mean(config)
    last, num_layers = given.over_mean() if mean else given, int(config.num_hidden_layers)
    if exit_heads is None:
        return (last,) * num_layers
    heads = []
    for exit in range(num_layers - 1):
        own = {name: tensor.detach()[exit] for name, tensor in exit_heads.items()}
        dense = Matrix(own["dense_weight"], own.get("dense_bias")) if "dense_weight" in own else given.dense
        head = replace(given, dense=dense, out=Matrix(own["out_weight"], own["out_bias"]))
        heads.append(head.over_mean() if mean or kind == "mean" else head)
    return (*heads, last)


def exit_shapes(kind: HeadKind, family: Family, config: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that heads of this kind add to a model, by name as in `ExitHeads`."""
    exits, hidden, classes = config.num_hidden_layers - 1, config.hidden_size, len(config.id2label)
    shapes: dict[str, tuple[int, ...]] = {"out_weight": (exits, classes, hidden), "out_bias": (exits, classes)}
    if kind != "linear":
        shapes["dense_weight"] = (exits, hidden, hidden)
        if family.biased(config, "dense"):
            shapes["dense_bias"] = (exits, hidden)
    return {} if kind == "shared" else shapes


def _per_exit(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply Linear number e to `rows[:, e]`: [B, E, H] with weights [E, O, H] gives [B, E, O]."""
    product = torch.einsum("beh,eoh->beo", rows, weight)
    return product if bias is None else product + bias
