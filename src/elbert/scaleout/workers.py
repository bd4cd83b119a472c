"""Answers the blocks whose part is missing: in this process, in several, or in Ray's actors on any machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeAlias

from elbert.errors import ElbertError
from elbert.scaleout.parts import Answers, Block, How, Part, Parts

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier

Load: TypeAlias = "Callable[[], Classifier | Cascade]"
Numbered: TypeAlias = Iterator[tuple[int, Block]]

# Takes numbered blocks and gives each back with its answers, in any order.
Answering: TypeAlias = Callable[[Numbered], Iterator[tuple[int, Block, Answers]]]

# Of a worker process.
_classifier: Classifier | Cascade
_how: How


def complete(
    parts: Parts, blocks: Iterator[Block], answering: Answering, on_part: Callable[[Part], None] = lambda _: None
) -> None:
    """Make every part that is missing.

    Args:
        parts: the folder.
        blocks: of the whole input, in order.
        answering: `here`, `by_processes` or `ray_actors.by_actors`, given how and what to load.
        on_part: is told of every part that is whole, those made before too.

    Raises:
        ElbertError: a worker died; whoever calls again goes on from the parts that are whole.
    """
    for number in sorted(parts.made):
        on_part(parts.made[number])
    for number, block, answers in answering(parts.missing(blocks)):
        on_part(parts.add(number, block, answers))
    parts.finish()


def here(blocks: Numbered, how: How, classifier: Classifier | Cascade) -> Iterator[tuple[int, Block, Answers]]:
    """Answer in this process."""
    for number, block in blocks:
        yield number, block, how.answer(classifier, block)


def by_processes(blocks: Numbered, how: How, load: Load, workers: int) -> Iterator[tuple[int, Block, Answers]]:
    """Answer in so many processes, each with its share of the cores; at most one block more than that is in memory.

    Args:
        blocks: read only when a process will soon be free.
        how: they are answered.
        load: returns the classifier; called once in every process, so it has to be picklable.
        workers: processes.

    Raises:
        ElbertError: one of them died.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (load, how, threads))
    pending: dict[Future[Answers], tuple[int, Block]] = {}
    try:
        for number, block in blocks:
            pending[pool.submit(_answer, block)] = number, block
            if len(pending) > workers:
                yield from _done(pending)
        while pending:
            yield from _done(pending)
    except BrokenProcessPool as error:
        raise ElbertError(
            "a worker process died (out of memory, or killed); the parts that are whole are kept: run the same command "
            "again to go on, with fewer --workers where memory is short"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _done(pending: dict[Future[Answers], tuple[int, Block]]) -> Iterator[tuple[int, Block, Answers]]:
    for future in wait(pending, return_when=FIRST_COMPLETED).done:
        yield *pending.pop(future), future.result()


def load_classifier(model: str, **loading: Any) -> Classifier | Cascade:
    """Load a model, or a cascade of several, in a worker; arguments as `Classifier.from_pretrained` takes them."""
    from elbert.modeling.files.sources import is_cascade

    if is_cascade(model):
        from elbert.cascade import Cascade

        return Cascade.from_pretrained(model, **loading)
    from elbert.classifier import Classifier

    return Classifier.from_pretrained(model, **loading)


def loaded(load: Load, threads: int) -> Classifier | Cascade:
    """Return the classifier of a worker that has so many cores for itself."""
    import torch

    torch.set_num_threads(threads)
    return load()


def _begin(load: Load, how: How, threads: int) -> None:
    Thread(target=_die_with_parent, daemon=True).start()
    global _classifier, _how
    _classifier, _how = loaded(load, threads), how


def _die_with_parent() -> None:
    """Wait for the process that reads and writes to end; were it killed, this one would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(block: Block) -> Answers:
    return _how.answer(_classifier, block)
