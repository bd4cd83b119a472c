"""Ray: blocks of texts answered by actors on any machine of a cluster, and Ray Data sets with answers added.

An actor holds one classifier. One that dies is started anew, and the block it was at is answered again, so nothing is
lost or doubled.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from elbert.errors import UsageError
from elbert.lazy import from_extra
from elbert.scaleout.parts import Answers, Block, How
from elbert.scaleout.workers import Load, Numbered, load_classifier, loaded

# An actor or its machine may die as often as it likes; what raises is not tried again.
_IMMORTAL = {"max_restarts": -1, "max_task_retries": -1}

# Rows of a data set answered in one call; the engine orders them by length.
_ROWS = 4096


def by_actors(
    blocks: Numbered, how: How, load: Load, workers: int, *, cores: float = 1, gpus: float = 0
) -> Iterator[tuple[int, Block, Answers]]:
    """Answer in so many of Ray's actors; at most one block more than that is in memory here.

    Args:
        blocks: read only when an actor will soon be free.
        how: they are answered.
        load: returns the classifier; called once in every actor, on whatever machine that is.
        workers: actors.
        cores: of each, which is also its threads.
        gpus: of each.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: the cluster will never have the cores for them.
    """
    ray = connect()
    _check_room(ray, workers, cores, gpus)
    actor = ray.remote(num_cpus=cores, num_gpus=gpus, **_IMMORTAL)(Actor)
    free = [actor.remote(load, how, int(max(1, cores))) for _ in range(workers)]
    pending: dict[Any, tuple[int, Block, Any]] = {}
    try:
        for number, block in blocks:
            one = free.pop()
            pending[one.answer.remote(block)] = number, block, one
            if not free:
                yield _finished(ray, pending, free)
        while pending:
            yield _finished(ray, pending, free)
    finally:
        for one in [*free, *(one for _, _, one in pending.values())]:
            ray.kill(one)


def _finished(ray: Any, pending: dict[Any, tuple[int, Block, Any]], free: list[Any]) -> tuple[int, Block, Answers]:
    """Wait for the first that is done."""
    (done,), _ = ray.wait(list(pending), num_returns=1)
    number, block, one = pending.pop(done)
    free.append(one)
    return number, block, ray.get(done)


class Actor:
    """One classifier in a process of its own."""

    def __init__(self, load: Load, how: How, threads: int) -> None:
        self._classifier, self._how = loaded(load, threads), how

    def answer(self, block: Block) -> Answers:
        """Answer the rows of a block."""
        return self._how.answer(self._classifier, block)


def connect(address: str | None = None) -> Any:
    """Return the module `ray`, connected.

    Args:
        address: `local` for a new cluster of this machine, whatever `RAY_ADDRESS` says; `auto` or an address for one
            that runs; None for what `RAY_ADDRESS` names, else as `local`.

    Raises:
        MissingExtraError: it is not installed.
        UsageError: there is no cluster at the address.
    """
    ray = from_extra("ray", "ray")
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level="warning")
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise UsageError(f"no Ray cluster at {address!r} ({said}); start one with ray start --head") from error
    return ray


def _check_room(ray: Any, workers: int, cores: float, gpus: float) -> None:
    here = ray.cluster_resources()
    for kind, each in (("CPU", cores), ("GPU", gpus)):
        if workers * each > here.get(kind, 0):
            raise UsageError(
                f"{workers} workers of {each:g} {kind} each are more than the {here.get(kind, 0):g} of this cluster; "
                "ask for fewer --workers, or add machines"
            )


def predict_dataset(
    dataset: Any,
    model: str,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    workers: int | tuple[int, int] = 1,
    cores: float = 1,
    gpus: float = 0,
    batch_size: int = 32,
    **loading: Any,
) -> Any:
    """Return a Ray Data set with the answers added: label, score, exit_layer, layers and truncated.

    Lazy, as Ray Data is: nothing runs before it is read or written, rows come in Ray's order, and batches of an actor
    that died are given to another.

    Args:
        dataset: a `ray.data.Dataset`.
        model: a folder that every machine sees, a hub id, or a bundled checkpoint.
        text_column: column of the text.
        text_pair_column: of the second text of a pair.
        workers: actors, or the fewest and the most of them.
        cores: of each actor, which is also its threads.
        gpus: of each.
        batch_size: texts in flight in each.
        **loading: `policy`, `dtype`, `device`, `backend` or `problem_type`, as `Classifier.from_pretrained` takes them.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: a column is missing, or the data set has one of the answers' names already.
    """
    connect()
    columns = (text_column,) if text_pair_column is None else (text_column, text_pair_column)
    names = dataset.columns() or []
    if missing := [name for name in columns if name not in names]:
        raise UsageError(f"the data set has no column {missing[0]!r}; allowed: {', '.join(names)}")
    if taken := sorted(set(names) & set(_ANSWER)):
        raise UsageError(f"the data set has a column {taken[0]!r} already; rename it, the answer is to be called so")
    return dataset.map_batches(
        Batches,
        fn_constructor_args=(partial(load_classifier, model, **loading), columns, batch_size, int(max(1, cores))),
        batch_size=_ROWS,
        batch_format="numpy",
        concurrency=workers,
        num_cpus=cores,
        num_gpus=gpus,
    )


_ANSWER = ("label", "score", "exit_layer", "layers", "truncated")


class Batches:
    """What `map_batches` makes an actor of: adds answers to batches of rows."""

    def __init__(self, load: Load, columns: tuple[str, ...], batch_size: int, threads: int) -> None:
        self._classifier, self._columns, self._batch_size = loaded(load, threads), columns, batch_size

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch with its answers."""
        texts = [batch[column].tolist() for column in self._columns]
        given = texts[0] if len(texts) == 1 else list(zip(*texts, strict=True))
        answers = [each.to_dict() for each in self._classifier.stream(given, batch_size=self._batch_size)]
        return {**batch, **{name: [answer[name] for answer in answers] for name in _ANSWER}}
