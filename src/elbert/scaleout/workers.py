"""Makes the parts that are missing, in this process or in several, each with its share of the cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from elbert.errors import ElbertError
from elbert.scaleout.parts import Block, How, Part, Parts

if TYPE_CHECKING:
    from elbert.classifier import Classifier

Load = Callable[[], "Classifier"]

# Of a worker process.
_classifier: Classifier


def complete(
    parts: Parts,
    blocks: Iterator[Block],
    how: How,
    load: Load,
    *,
    workers: int = 1,
    on_part: Callable[[Part], None] = lambda _: None,
) -> None:
    """Make every part that is missing.

    Blocks in memory are at most two more than there are workers.

    Args:
        parts: the folder.
        blocks: of the whole input, in order.
        how: a part is made.
        load: returns the classifier; called once in every process, so for several workers it has to be picklable.
        workers: processes; 1 works in this one.
        on_part: is told of every part once it is whole, those made before too.

    Raises:
        ElbertError: a worker died; whoever calls again goes on from the parts that are whole.
    """
    for number in sorted(parts.made):
        on_part(parts.made[number])
    missing = parts.missing(blocks)
    made = (
        _here(parts.folder, missing, how, load)
        if workers == 1
        else _by_workers(parts.folder, missing, how, load, workers)
    )
    for number, part in made:
        parts.add(number, part)
        on_part(part)
    parts.finish()


def _here(folder: Path, missing: Iterator[tuple[int, Block]], how: How, load: Load) -> Iterator[tuple[int, Part]]:
    classifier = load()
    for number, block in missing:
        yield number, how.make(classifier, block, folder, number)


def _by_workers(
    folder: Path, missing: Iterator[tuple[int, Block]], how: How, load: Load, workers: int
) -> Iterator[tuple[int, Part]]:
    """Yield parts as they come; a block is read only when a worker will soon be free for it."""
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (load, threads))
    pending: dict[Future[Part], int] = {}
    try:
        for number, block in missing:
            pending[pool.submit(_make, how, block, folder, number)] = number
            if len(pending) > workers:
                yield from _done(pending)
        while pending:
            yield from _done(pending)
    except BrokenProcessPool as error:
        raise ElbertError(
            f"a worker process died (out of memory, or killed); {folder} keeps the parts that are whole: "
            "run the same command again to go on, with fewer --workers where memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _done(pending: dict[Future[Part], int]) -> Iterator[tuple[int, Part]]:
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield pending.pop(future), future.result()


def _begin(load: Load, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    global _classifier
    _classifier = load()


def _make(how: How, block: Block, folder: Path, number: int) -> Part:
    return how.make(_classifier, block, folder, number)
