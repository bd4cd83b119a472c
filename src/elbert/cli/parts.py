"""`elbert predict --part-rows`: the answers as a folder of parts, by one process or several, completed when killed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from elbert.cli.console import STANDARD, progress_bar, show, when_stopped
from elbert.cli.writers import FORMATS
from elbert.errors import UsageError
from elbert.scaleout.parts import Block, How, Part, Parts, open_parts
from elbert.scaleout.workers import Answering, Load, by_processes, complete, here

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier


def check_parts(part_rows: int | None, workers: int, output: str, ray: str | None) -> None:
    """Refuse flags of parts that say nothing, or contradict each other."""
    if part_rows is None and (workers > 1 or ray is not None):
        given = f"--workers {workers}" if ray is None else f"--ray {ray}"
        raise UsageError(f"{given} needs --part-rows: several processes write a folder of parts")
    if part_rows is not None and output == STANDARD:
        raise UsageError("--part-rows writes a folder of parts; name it with --output")


def answer_in_parts(
    folder: Path,
    blocks: Iterator[Block],
    classifier: Classifier | Cascade,
    load: Load,
    *,
    part_rows: int,
    batch_size: int,
    kind: str,
    workers: int,
    ray: str | None,
    overwrite: bool,
    progress: bool,
) -> None:
    """Answer the blocks whose part is missing in a folder; those that are whole are held against the input.

    Args:
        folder: of the parts.
        blocks: of the whole input, in order.
        classifier: answers where there is but one process, and says what the answers depend on.
        load: returns the same in another process.
        part_rows: rows of a block.
        batch_size: texts in flight together.
        kind: `jsonl` or `csv`.
        workers: processes.
        ray: the address whose actors the workers are; None for processes of this machine.
        overwrite: replace what an earlier run has made with other settings.
        progress: show a bar in any case.
    """
    how = How(FORMATS[kind], batch_size)
    answering: Answering
    if ray is not None:
        from elbert.scaleout.ray_actors import by_actors, connect

        connect(ray)
        answering = partial(by_actors, how=how, load=load, workers=workers)
    elif workers > 1:
        answering = partial(by_processes, how=how, load=load, workers=workers)
    else:
        answering = partial(here, how=how, classifier=classifier)
    request = {
        "model": classifier.weights_digest or classifier.name,
        "policy": classifier.policy.to_dict(),
        "backend": classifier.backend,
        "dtype": classifier.dtype,
        "part_rows": part_rows,
        "batch_size": batch_size,
        "output_format": kind,
    }

    def kept() -> str:
        return f"{len(parts.made):,} parts are whole in {folder}: the same command goes on"

    with open_parts(folder, f".{kind}", request, overwrite=overwrite) as parts, when_stopped(kept):
        _complete(parts, blocks, answering, progress)


def _complete(parts: Parts, blocks: Iterator[Block], answering: Answering, progress: bool) -> None:
    """Make what is missing, with a bar that tells the mean exit layer, and say at the end what all the parts hold."""
    with progress_bar(None, "texts", forced=progress) as bar:
        answered = layers = 0

        def tell(part: Part) -> None:
            nonlocal answered, layers
            answered, layers = answered + part.rows, layers + part.layers
            bar.set_postfix_str(f"mean exit layer {layers / max(answered, 1):.2f}", refresh=False)
            bar.update(part.rows)

        before = len(parts.made)
        complete(parts, blocks, answering, tell)
    left_out = sum(part.rejected for part in parts.made.values())
    made = f"{len(parts.made):,}" + (f" ({before:,} by an earlier run)" if before else "")
    why = f", rows left out: {left_out:,} (*.rejects.jsonl say why)" if left_out else ""
    mean = f"mean exit layer {layers / max(answered, 1):.2f}"
    show(f"rows answered: {answered:,}, parts: {made}{why}, {mean}: {parts.folder}", err=True)
