"""CAP: the share of a state that the head does not read, as one more class. Reads pooled states; keeps no memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from elbert.arrays import LEAST, Array, amax, namespace, own_products
from elbert.exits.base import Found, State, Sweep, one_label
from elbert.exits.learned import Learned
from elbert.exits.parameters import number
from elbert.results import ExitOutput

_GRID = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.006, 0.003, 0.001, 3e-4, 1e-4, 1e-5)
_SCALES = (0.1, 1.0, 3.0)

# Least singular value of a head, in units of its greatest, that counts as read; of all exits' answers, in units of
# theirs, that one head may miss and still be the head of all.
_RANK, _ALIKE = 1e-5, 1e-3


@dataclass(frozen=True)
class Cap(Learned):
    """Leave at the first layer i where e^{αs_i} / (Σ_j e^{z_i(j)} + e^{αs_i}) < threshold.

    Rule: s = √(1 − ‖P z̃‖² / ‖z̃‖²), z̃ = c_i + b W⁺, P the projector on the columns of the head's weights W [H, C], b
    its bias, c_i the pooled state: the share of the state that the head does not read, from 0 to 1. It stands for a
    class of what is none of the others. With the paper's α = 0.1 the factor is 1 to 1.105, so that the order is that of
    `energy` but for a hair. For single label only: elsewhere the rule never fires. Use it where texts of other kinds
    come by.

    W and b are recovered from recorded states and logits by least squares: exactly where there are more texts than
    hidden units, or one head serves all exits; otherwise as far as the recorded states reach. It learns nothing else,
    and no label is looked at.

    Source: He et al., "NSP", IJCAI 2025.
    """

    name: ClassVar[str] = "cap"
    summary: ClassVar[str] = "leave when a class of what the head can't read is less likely than `threshold` (NSP)"
    citation: ClassVar[str] = "He et al., NSP and its score CAP, IJCAI 2025, arXiv:2506.17249"
    needs: ClassVar[frozenset[str]] = frozenset({"pooled"})
    axes: ClassVar[Mapping[str, int]] = {"read": 3, "shift": 2}
    sweep: ClassVar[Sweep] = {"threshold": _GRID, "alpha": _SCALES}

    threshold: float = number(0.05, "leave when the further class is less likely than this", high=1.0)
    alpha: float = number(0.1, "α: how much the share counts that is not read")

    def learn(self, said: ExitOutput, targets: NDArray[Any]) -> Mapping[str, ArrayLike]:
        """Return for every exit an orthonormal basis of what its head reads, [M, C, H], and b W⁺, [M, H]."""
        del targets
        pooled: Array = said.pooled
        logits: Array = said.logits
        texts, layers, width = pooled.shape
        joint, missed = _head(pooled.reshape(-1, width), logits.reshape(texts * layers, -1))
        if missed < _ALIKE:
            heads = [joint] * layers
        else:
            heads = [_head(pooled[:, exit], logits[:, exit])[0] for exit in range(layers)]
        read, shift = zip(*(_basis(*head) for head in heads), strict=True)
        return {"read": np.stack(read), "shift": np.stack(shift)}

    def decide(self, state: State, output: ExitOutput, layer: Array) -> tuple[Found, State]:
        """Compare the probability of the further class with the threshold."""
        logits: Array = output.logits
        xp = namespace(logits)
        read, shift = (self.weights.like(name, output.pooled) for name in self.axes)
        at = (layer - 1).clip(max=len(shift) - 1)
        moved = output.pooled + shift[at]
        # What is left without the part that is read: a difference of squares would lose half of the digits.
        left = moved - own_products(own_products(moved, read, at), read.swapaxes(1, 2), at)
        unread = xp.sqrt((left * left).sum(-1) / (moved * moved).sum(-1).clip(min=LEAST)).clip(max=1)
        if not one_label(output):
            return {"fired": layer < 0, "chance_of_none": xp.ones_like(unread)}, state
        further = self.alpha * unread
        most = xp.maximum(amax(logits, -1), further)
        weight = xp.exp(further - most)
        chance = weight / (xp.exp(logits - most[:, None]).sum(-1) + weight)
        return {"fired": chance < self.threshold, "chance_of_none": chance}, state


def _head(states: NDArray[Any], logits: NDArray[Any]) -> tuple[tuple[NDArray[Any], NDArray[Any]], float]:
    """Return the Linear (W [H, C], b [C]) that gives these logits [n, C], and what it misses of their spread."""
    mean, middle = states.mean(0, dtype=np.float64), logits.mean(0, dtype=np.float64)
    weight, *_ = np.linalg.lstsq(states - mean, logits - middle, rcond=_RANK)
    missed = np.abs((states - mean) @ weight - (logits - middle)).max(initial=0.0)
    spread = np.abs(logits - middle).max(initial=0.0)
    return (weight, middle - mean @ weight), float(missed / max(spread, 1e-12))


def _basis(weight: NDArray[Any], bias: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return an orthonormal basis [C, H] of the columns of W [H, C], 0 where they are fewer, and b W⁺ [H]."""
    left, sizes, right = np.linalg.svd(weight, full_matrices=False)
    counts = sizes > _RANK * sizes.max(initial=0.0)
    basis = np.zeros((weight.shape[1], weight.shape[0]))
    basis[: len(sizes)] = (left * counts).T
    return basis, (bias @ right.T / np.where(counts, sizes, np.inf)) @ left.T
