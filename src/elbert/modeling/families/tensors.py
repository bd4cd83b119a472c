"""From a checkpoint's tensors, by name, to the matrices and norms that a layer is made of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from elbert.modeling.weights import Matrix, Norm

Tensors = Mapping[str, Tensor]


def matrix(tensors: Tensors, *names: str) -> Matrix:
    """Return the Linear of that name; of several names one Linear with all their outputs, behind one another."""
    weights = [tensors[f"{name}.weight"].detach() for name in names]
    biases = [tensors[f"{name}.bias"].detach() for name in names if f"{name}.bias" in tensors]
    if len(names) == 1:
        return Matrix(weights[0], biases[0] if biases else None)
    return Matrix(torch.cat(weights), torch.cat(biases) if biases else None)


def norm(tensors: Tensors, name: str, eps: float) -> Norm:
    """Return the norm of that name."""
    bias = tensors.get(f"{name}.bias")
    return Norm(tensors[f"{name}.weight"].detach(), None if bias is None else bias.detach(), eps)
