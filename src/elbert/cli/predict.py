"""`elbert predict`: texts in, answers out, in input order and with bounded memory."""

from __future__ import annotations

import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elbert.cli import options
from elbert.cli.console import STANDARD, check_output, progress_bar, written_last
from elbert.cli.parts import answer_in_parts, check_parts
from elbert.cli.writers import FORMATS, Writer, format_of
from elbert.disk import whole_file
from elbert.errors import DataError, DataWarning, UsageError
from elbert.scaleout.parts import Block
from elbert.scaleout.workers import load_classifier

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier
    from elbert.data import Text


def predict(
    model: options.Model,
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; - alone reads standard input.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="A CSV, TSV, JSONL, Parquet or text file (also .gz), or -; a folder or hub:NAME, of which --split."
        ),
    ] = None,
    split: options.SplitOfTest = None,
    output: Annotated[str, typer.Option(help="A .jsonl or .csv file, or - for standard output.")] = STANDARD,
    output_format: Annotated[str | None, typer.Option(help="jsonl, or csv: the input's rows plus the answer.")] = None,
    pair: Annotated[
        bool, typer.Option("--pair", help="Texts are pairs: two arguments, or two tab-separated halves.")
    ] = False,
    columns: options.TextFlags = options.TEXTS,
    policy: options.PolicyFlags = options.POLICY,
    full_depth: Annotated[bool, typer.Option("--full-depth", help="No early exit: run every layer.")] = False,
    batch_size: options.BatchSize = 32,
    loading: options.LoadFlags = options.LOADING,
    part_rows: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Make --output a folder of parts of N rows, which a run that was killed completes."
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the cores; needs --part-rows.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Let the workers be Ray's actors, a core each: auto, local, or a cluster's address."
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    progress: options.Progress = False,
) -> None:
    """Classify texts: one JSON object a line with label, score, exit_layer, layers and truncated, in input order.

    MODEL may be a cascade, as elbert cascade makes it.

    CSV output keeps the input's columns and adds those five; one whose name is taken is called predicted_NAME, or
    predicted_NAME_2 and so on. With --part-rows a killed run goes on when the same command is given again, and ends in
    the same bytes; rows that --skip-broken-rows leaves out are listed beside their part, with the reason.

    Example:
        elbert predict runs/mine "What a film!" "Never again."
        elbert predict runs/mine --pair "A man sleeps." "Somebody is awake."
        cat texts.txt | elbert predict runs/mine - > answers.jsonl
        elbert predict runs/mine --input reviews.csv --output answers.csv
        elbert predict runs/mine --input huge.parquet --output answers --part-rows 50000 --workers 4
    """
    source = _source(texts or [], input, pair=pair)
    if isinstance(source, list):
        _check_arguments(split, columns)
    check_parts(part_rows, workers, output, ray)
    if output != STANDARD and part_rows is None:
        check_output(Path(output), overwrite=overwrite)
    kind = format_of("" if part_rows else output, output_format or ("jsonl" if part_rows else None))
    classifier = options.load_any(model, policy, loading, full_depth=full_depth)
    rows = Rows(source, split, columns, pair=pair, cells=FORMATS[kind].takes_cells)
    if part_rows is not None:
        answer_in_parts(
            Path(output),
            rows.blocks(part_rows),
            classifier,
            partial(load_classifier, model, **asdict(loading), policy=classifier.policy),
            part_rows=part_rows,
            batch_size=batch_size,
            kind=kind,
            workers=workers,
            ray=ray,
            overwrite=overwrite,
            progress=progress,
        )
        return
    if output == STANDARD:
        _classify(classifier, rows, FORMATS[kind](sys.stdout), batch_size, progress)
        return
    with written_last(Path(output)), whole_file(Path(output)) as stream:
        _classify(classifier, rows, FORMATS[kind](stream), batch_size, progress)


def _source(texts: list[str], path: str | None, *, pair: bool) -> Any:
    """Return what to read: a file's name, `-`, or the list of texts or pairs given as arguments."""
    if STANDARD in texts and len(texts) > 1:
        raise UsageError(
            f"- reads standard input and stands alone, but {len(texts)} texts were given; give it alone, or texts, "
            "or all of them in a file with --input"
        )
    if texts == [STANDARD] and path in (None, STANDARD):
        return STANDARD
    if texts and path is not None:
        raise UsageError(f"texts as arguments and --input {path!r} were both given; give one of them")
    if path is not None:
        return path
    if not texts:
        raise UsageError("no texts: give them as arguments, in a file with --input, or on standard input with -")
    for text in texts:
        if os.path.isfile(text):  # noqa: PTH113 - a Path raises where the text is longer than a name may be
            meant = f"it is classified as a text; its lines or rows are read with --input {text}"
            warnings.warn(f"{text!r} is the name of a file here: {meant}", DataWarning, stacklevel=2)
    if not pair:
        return texts
    if len(texts) % 2:
        raise UsageError(f"--pair takes an even number of texts, two for each pair; {len(texts)} were given")
    return list(zip(texts[::2], texts[1::2], strict=True))


class Rows:
    """The input's rows, read as they are asked for; keeps the cells of those whose answer is still to come.

    Args:
        source: a file's or a folder's name, `hub:NAME`, `-`, or a list of texts or pairs.
        split: which part of a folder or a hub's data set; None takes `test`, and says so.
        flags: how texts are read.
        pair: insist on pairs; plain lines are split at their tab.
        cells: keep what else stands in a row; without, columns and cells are empty.

    Attributes:
        columns: of the input, known once the first text is read.
    """

    def __init__(
        self, source: Any, split: str | None, flags: options.TextFlags, *, pair: bool = False, cells: bool = True
    ) -> None:
        self._source = source
        self._split = split
        self._flags = flags
        self._pair = pair
        self._keeps_cells = cells
        self._waiting: deque[Any] = deque()
        self._rejected: list[tuple[int, str]] = []
        self.columns: tuple[str, ...] = ()

    def texts(self) -> Iterator[Text]:
        """Yield every text, remembering its cells for `cells`.

        Raises:
            DataError: there is no text at all, a row cannot be read, or a line has no tab where pairs were asked for.
        """
        from elbert.data.columns import find_texts, read_text
        from elbert.data.readers import choose_split, open_table
        from elbert.data.table import BrokenRows, EmptyTexts

        named = isinstance(self._source, str)
        split = choose_split(self._source, self._split, "test") if named else "test"
        broken, empty = BrokenRows(skip=self._flags.skip_broken_rows), EmptyTexts()
        with open_table(self._source, split, self._flags.input_format) as table:
            self._tell_part(table.name)
            columns, number = None, 0
            for row in table.rows:
                number = row.number
                columns = columns or find_texts(table, self._flags.text_column, self._flags.text_pair_column)
                try:
                    text = read_text(table, row, columns)
                except DataError as error:
                    broken.meet(error)
                    self._rejected.append((row.number, str(error)))
                    continue
                if self._pair and isinstance(text, str):
                    text = _halves(text, table.columns, f"{table.name}: row {row.number}")
                empty.see(text, number)
                self.columns = table.columns if self._keeps_cells else ()
                self._waiting.append(row.cells if self._keeps_cells else {})
                yield text
            if columns is None:
                raise DataError(f"{table.name}: no texts; give at least one")
            broken.tell(table.name, number)
            empty.tell(table.name)

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield the rows in blocks of `size` that could be read, with those between them that could not.

        Raises:
            DataError: as `texts`.
        """
        texts, held = self.texts(), None
        while part := list(islice(texts, size)):
            if held is not None:
                yield held
            held = Block(self.columns, part, [self.cells() for _ in part], self._take_rejected())
        if held is not None:  # behind the last block there may be more that could not be read
            yield replace(held, rejected=[*held.rejected, *self._take_rejected()])

    def _take_rejected(self) -> list[tuple[int, str]]:
        taken, self._rejected = self._rejected, []
        return taken

    def _tell_part(self, name: str) -> None:
        """Say which part of a source is classified, where nobody has named it."""
        if self._split is not None or not isinstance(self._source, str):
            return
        if self._source.startswith("hub:") or Path(self._source).expanduser().is_dir():
            told = f"{self._source} has parts, of which {name} is classified; --split names another"
            warnings.warn(told, DataWarning, stacklevel=2)

    def cells(self) -> Any:
        """Return the cells of the oldest row without an answer, by column."""
        return self._waiting.popleft()


def _halves(line: str, columns: tuple[str, ...], where: str) -> tuple[str, str]:
    """Split a plain line at its tab."""
    if columns != ("text",):
        raise UsageError(f"{where}: --pair needs two text columns; name them with --text-column and --text-pair-column")
    halves = line.split("\t")
    if len(halves) != 2:
        tabs = f"there are {len(halves) - 1}" if len(halves) > 1 else "there is none"
        raise DataError(f"{where}: --pair needs two texts with a tab between them; {tabs}")
    return halves[0], halves[1]


def _check_arguments(split: str | None, columns: options.TextFlags) -> None:
    """Refuse flags that say how a source is read where texts are arguments."""
    given = {"split": split, **asdict(columns)}
    flag = next((name for name, value in given.items() if value), None)
    if flag is not None:
        raise UsageError(
            f"--{flag.replace('_', '-')} says how --input is read, but texts were given as arguments; leave it out"
        )


def _classify(classifier: Classifier | Cascade, rows: Rows, writer: Writer, batch_size: int, progress: bool) -> None:
    with progress_bar(None, "texts", forced=progress) as bar:
        for prediction in classifier.stream(rows.texts(), batch_size=batch_size):
            writer.write(rows.columns, rows.cells(), prediction)
            bar.update()
