"""Answers in parts: a folder of files of so many rows each, which a run that was killed completes when it is run again.

    part-00000.jsonl            answers to the first rows, in input order
    part-00000.rejects.jsonl    rows of that stretch that could not be read, each with the reason, where there are any
    manifest.json               what was asked for, and of every part its rows and digests

A part is answered from its own first row on and takes its name when it is whole, so the folder of a run that was
broken ten times is the same, byte for byte, as that of one that never was. Nothing in it tells times.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from elbert.disk import ANOTHER_FOLDER, new_folder, write_errors, write_whole
from elbert.errors import DataError, ElbertError, UsageError
from elbert.exits.wording import policy_words

if TYPE_CHECKING:
    from elbert.cascade import Cascade
    from elbert.classifier import Classifier
    from elbert.data import Text

MANIFEST, _REJECTS, _LOCK = "manifest.json", ".rejects.jsonl", ".lock"
_FORMAT = 2
_AGAIN = "give the input it was begun with, or --overwrite to start again"


@dataclass(frozen=True)
class Block:
    """The rows of one part: what its answers are made of, and nothing else.

    Attributes:
        columns: of the input; none where the answers show no cells.
        texts: what is classified.
        cells: of each of those rows, by column; likewise.
        rejected: row numbers, from 1, of what could not be read among them, each with the reason.
    """

    columns: tuple[str, ...]
    texts: Sequence[Text]
    cells: Sequence[Mapping[str, Any]]
    rejected: Sequence[tuple[int, str]] = ()

    def digest(self) -> str:
        """Return 64 hexadecimal digits that differ where any of it does."""
        content = json.dumps([self.columns, self.cells, self.texts, self.rejected], default=str)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Part:
    """What the manifest says of one part.

    Attributes:
        number: its place among them, from 0.
        name: of its file.
        rows: answers in it.
        rejected: rows that could not be read.
        layers: layers run for all of them.
        read: digest of the rows it answers.
        written: digest of the file.
    """

    number: int
    name: str
    rows: int
    rejected: int
    layers: int
    read: str
    written: str


class Answers(NamedTuple):
    """What a part will hold, and the layers run for it."""

    text: str
    layers: int


@dataclass(frozen=True)
class How:
    """How a block is answered; the same in every process.

    Attributes:
        writer: makes of a stream what writes answers to it, see `elbert.cli.writers`.
        batch_size: texts in flight.
    """

    writer: Callable[[TextIO], Any]
    batch_size: int

    def answer(self, classifier: Classifier | Cascade, block: Block) -> Answers:
        """Answer the rows of a block."""
        stream, layers = io.StringIO(newline=""), 0
        writer = self.writer(stream)
        answers = classifier.stream(block.texts, batch_size=self.batch_size)
        for cells, prediction in zip(block.cells, answers, strict=True):
            writer.write(block.columns, cells, prediction)
            layers += prediction.exit_layer
        return Answers(stream.getvalue(), layers)


class Parts:
    """A folder of parts, new or to be completed; made by `open_parts`.

    Attributes:
        folder: where it lies.
        suffix: of the files' names, with its dot.
        made: parts that are whole, by number.
        finished: whether all of them are.
    """

    def __init__(
        self,
        folder: Path,
        suffix: str,
        request: Mapping[str, Any],
        content: Mapping[str, Any] | None,
        replaced: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.suffix = folder, suffix
        self._request = dict(request)
        self._replaced = replaced
        self.made = {part["number"]: Part(**part) for part in ([] if content is None else content["parts"])}
        self.finished = bool(content and content["finished"])

    def missing(self, blocks: Iterator[Block]) -> Iterator[tuple[int, Block]]:
        """Yield the blocks whose part is not whole yet, each with its number; the input is read from its start.

        Raises:
            DataError: rows that were answered before are others now, there are fewer, or a finished input has more.
        """
        number = -1
        for number, block in enumerate(blocks):
            part = self.made.get(number)
            if part is None and self.finished:
                raise DataError(
                    f"{self.folder}: the input goes on behind the rows that were answered, and it was finished; answer "
                    "the new rows into another folder, or give --overwrite to start again"
                )
            if part is None:
                yield number, block
            elif part.read != block.digest():
                raise DataError(f"{self.folder}: {_changed(part, block)}; {_AGAIN}")
        if left := [part.name for at, part in sorted(self.made.items()) if at > number]:
            raise DataError(f"{self.folder}: the input ends before the rows that {left[0]} answers; {_AGAIN}")

    def add(self, number: int, block: Block, answers: Answers) -> Part:
        """Write a part, whole or not at all, and note that it is."""
        if self._replaced is not None:  # now, and not when the folder is opened: the input may turn out to be none
            _clear(self.folder, self._replaced)
            self._replaced = None
        stem = f"part-{number:05}"
        if block.rejected:
            rejects = [
                json.dumps({"row": row, "reason": why}, ensure_ascii=False) + "\n" for row, why in block.rejected
            ]
            self._write(f"{stem}{_REJECTS}", "".join(rejects))
        name = f"{stem}{self.suffix}"
        self._write(name, answers.text)
        counts = len(block.texts), len(block.rejected), answers.layers
        written = hashlib.sha256(answers.text.encode()).hexdigest()
        part = self.made[number] = Part(number, name, *counts, block.digest(), written)
        self._save()
        return part

    def finish(self) -> None:
        """Note that there are no more."""
        self.finished = True
        self._save()

    def _save(self) -> None:
        parts = [self.made[number] for number in sorted(self.made)]
        rows = sum(part.rows for part in parts)
        content = {
            "format": _FORMAT,
            "request": self._request,
            "finished": self.finished,
            "rows": rows,
            "rejected": sum(part.rejected for part in parts),
            "mean_exit_layer": sum(part.layers for part in parts) / rows if rows else 0.0,
            "parts": [asdict(part) for part in parts],
        }
        self._write(MANIFEST, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _write(self, name: str, text: str) -> None:
        write_whole(self.folder / name, text)


@contextmanager
def open_parts(folder: Path, suffix: str, request: Mapping[str, Any], *, overwrite: bool) -> Iterator[Parts]:
    """Open a folder of parts for one run: make it, or go on with it where the same was asked for before.

    Args:
        folder: absent, empty, or one that an earlier run left.
        suffix: of the files' names, with its dot.
        request: JSON-ready; what the answers depend on.
        overwrite: start again where another request left it.

    Raises:
        UsageError: something else lies there, another request was begun there, or another run is at it now.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output {str(folder)!r} is a file; with --part-rows it is a folder: name another")
    with _alone(folder):
        for draft in folder.glob(".*.part"):
            draft.unlink()  # of a run that was killed
        content, replaced = _read(folder), None
        if content is None:
            _check_empty(folder)
        elif overwrite:
            content, replaced = None, content
        elif differing := _differing(content["request"], request):
            raise UsageError(
                f"{str(folder)!r} holds the answers to another request ({differing}); name another folder, give the "
                "same request to complete it, or --overwrite to start again"
            )
        yield Parts(folder, suffix, request, content, replaced)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder where it is missing, and hold it for this run; the system lets go where the run is killed.

    A folder that was made here and into which nothing was written is dropped again.

    Raises:
        ElbertError: it cannot be made, or nothing in it.
        UsageError: another run holds it.
    """
    with ExitStack() as stack:
        with write_errors(repr(str(folder)), ANOTHER_FOLDER):
            stack.enter_context(new_folder(folder))
            lock = stack.enter_context((folder / _LOCK).open("a"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(
                f"another run is writing to {str(folder)!r}; wait for it, or name another folder"
            ) from None
        try:
            yield
        finally:
            (folder / _LOCK).unlink(missing_ok=True)


def _changed(part: Part, block: Block) -> str:
    """Say how rows differ from those that a part answers: the last of an input may also be fewer, or more."""
    then, now = part.rows + part.rejected, len(block.texts) + len(block.rejected)
    if now == then:
        return f"the rows of {part.name} are others than those it answers"
    length = "shorter" if now < then else "longer"
    return f"the input is {length} than it was (rows of {part.name}: {then:,} then, {now:,} now)"


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ElbertError(
                f"{path} is of format {content['format']}, this version writes {_FORMAT}; name another folder, or "
                "complete it with the version that began it"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise ElbertError(f"{path} is no manifest of ours ({error}); name another folder") from error
    return content


def _check_empty(folder: Path) -> None:
    """Refuse a folder that holds more than what a run killed before its first manifest leaves."""
    names = sorted(path.name for path in folder.iterdir() if path.name != _LOCK)
    foreign = [name for name in names if not name.startswith("part-")]
    if foreign:
        raise UsageError(f"output {str(folder)!r} holds {foreign[0]!r}, which no such run wrote; name another folder")


def _clear(folder: Path, content: Mapping[str, Any]) -> None:
    (folder / MANIFEST).unlink()
    for part in content["parts"]:
        (folder / part["name"]).unlink(missing_ok=True)
        (folder / f"{Path(part['name']).stem}{_REJECTS}").unlink(missing_ok=True)


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what differs between two requests, in words; empty where nothing does."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {_words(before.get(name))}, is {_words(now.get(name))}" for name in names)


def _words(value: Any) -> str:
    return policy_words(value) if isinstance(value, Mapping) else str(value)
