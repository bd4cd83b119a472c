"""Refuses to compute in a process that was forked from one where an engine lived.

A fork copies the memory of a process and none of its threads: torch's products in the child wait for workers that are
not there, for ever. Whoever has one thread has no workers to miss.
"""

from __future__ import annotations

import os

import torch

from elbert.errors import ElbertError

_first: int | None = None  # the process, by its id, that built the first engine of this memory


def check_process() -> None:
    """Note the process that computes first.

    Raises:
        ElbertError: this one was forked from it and has more than one thread.
    """
    global _first
    if _first is None:
        _first = os.getpid()
    if _first != os.getpid() and (threads := torch.get_num_threads()) > 1:
        raise ElbertError(
            f"this process was forked from one that had loaded a model, and the {threads} threads that torch is to use "
            "did not come along: start processes with multiprocessing's 'spawn', load no model before the fork, or "
            "call torch.set_num_threads(1) in the child"
        )
