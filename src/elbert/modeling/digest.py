"""A short name for a model's weights, so that what was promised of one is not believed of another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from elbert.modeling.weights import EncoderWeights

# Numbers looked at in a matrix: training moves all of them, so a few tell two models apart.
_SAMPLE = 1024


def weights_digest(weights: EncoderWeights) -> str | None:
    """Return 16 hexadecimal digits that differ where the weights do; None where there are none, as in an export.

    Evenly spread samples of every matrix are hashed, so that a large model costs milliseconds.
    """
    digest = hashlib.sha256()
    for tensor in _tensors(weights):
        if tensor.is_meta:
            return None
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLE)].to("cpu", torch.float32)
        digest.update(repr(tuple(tensor.shape)).encode() + sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(part: object) -> Iterator[Tensor]:
    """Yield the tensors of nested dataclasses and tuples, in their order; a shared part comes once."""
    seen: set[int] = set()
    stack = [part]
    while stack:
        each = stack.pop()
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, tuple):
            stack += reversed(each)
        elif id(each) not in seen and hasattr(each, "__dataclass_fields__"):
            seen.add(id(each))
            stack += [getattr(each, name) for name in reversed(list(each.__dataclass_fields__))]
