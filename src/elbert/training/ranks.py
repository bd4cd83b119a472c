"""Several processes that train one model, as `torchrun` starts them: which of them this is, and what is kept in step.

The model's own gradients are averaged by transformers' Trainer. What it cannot know of is done here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor, distributed


def count() -> int:
    """Return how many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def wait() -> None:
    """Wait until every process has come here."""
    if count() > 1:
        from accelerate import PartialState

        PartialState(cpu=not torch.accelerator.is_available()).wait_for_everyone()


@torch.no_grad()
def average(tensors: Iterable[Tensor | None]) -> None:
    """Put the mean of all processes in the place of each tensor; whole numbers are left as they are."""
    if count() == 1:
        return
    for tensor in tensors:
        if tensor is not None and tensor.is_floating_point():
            distributed.all_reduce(tensor)
            tensor.div_(count())
