"""Plain text in, documents out: `.txt`, `.jsonl`, and either of them as `.gz` or `.xz`.

A text file holds documents separated by blank lines, one paragraph a line; a JSONL file holds one document a line in
its `text` field. This file knows files, encodings, and where a sentence ends; it knows no tokenizer.
"""

from __future__ import annotations

import gzip
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from elbert.data.lines import pointer_problem
from elbert.errors import DataError, UsageError

SUFFIXES = (".txt", ".jsonl")
COMPRESSIONS = (".gz", ".xz")

_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
# A full stop, perhaps inside a quotation, ends a sentence where a space and then a capital or a digit follow.
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]?[A-Z0-9])")


def check_corpus(path: Path) -> None:
    """Refuse a corpus that cannot be read, before any work starts.

    Raises:
        UsageError: the file does not exist, is a folder, or has an ending this reader does not know.
        DataError: it only points at its content.
    """
    if not path.is_file():
        raise UsageError(f"there is no corpus file {str(path)!r}; give plain text: {_allowed()}")
    if _kind(path) not in SUFFIXES:
        raise UsageError(f"corpus {path.name!r} has an unknown ending; allowed: {_allowed()}")
    with path.open("rb") as stream:
        pointer = pointer_problem(stream.read(200))
    if pointer is not None:
        raise DataError(f"{path} {pointer}")


def read_documents(path: Path) -> Iterator[list[str]]:
    """Yield the documents of one file as lists of sentences; empty ones are left out.

    Args:
        path: a file that `check_corpus` accepts.

    Raises:
        DataError: broken UTF-8, broken compression, or a JSONL line without a `text` string; names file and line.
    """
    documents = _jsonl_documents(path) if _kind(path) == ".jsonl" else _text_documents(path)
    for paragraphs in documents:
        sentences = [sentence for paragraph in paragraphs for sentence in split_sentences(paragraph)]
        if sentences:
            yield sentences


def split_sentences(paragraph: str) -> list[str]:
    """Cut a paragraph after `.`, `!` or `?` where what follows looks like a new sentence; HTML line breaks cut too."""
    pieces: Iterable[str] = _LINE_BREAK.split(paragraph)
    return [sentence.strip() for piece in pieces for sentence in _SENTENCE_END.split(piece) if sentence.strip()]


def _kind(path: Path) -> str:
    """Return what the name ends in, seen through the compression."""
    name = Path(path.name.lower())
    return Path(name.stem).suffix if name.suffix in COMPRESSIONS else name.suffix


def _allowed() -> str:
    return ", ".join(suffix + extra for suffix in SUFFIXES for extra in ("", *COMPRESSIONS))


def _open(path: Path) -> BinaryIO:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if suffix == ".xz":
        return cast(BinaryIO, lzma.open(path, "rb"))
    return path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (1-based line number, text without its line end)."""
    number = 0
    try:
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} line {number}: not UTF-8 ({error.reason}); convert the file, for example with iconv -t utf-8"
        ) from error
    except (gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(
            f"{path} after line {number}: the compression is broken ({error}); fetch the file anew"
        ) from error


def _text_documents(path: Path) -> Iterator[list[str]]:
    paragraphs: list[str] = []
    for _, line in _lines(path):
        if line.strip():
            paragraphs.append(line)
        elif paragraphs:
            yield paragraphs
            paragraphs = []
    if paragraphs:
        yield paragraphs


def _jsonl_documents(path: Path) -> Iterator[list[str]]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} line {number}: not JSON ({error.msg})") from error
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise DataError(f'{path} line {number}: no \'text\' string; a line must be an object like {{"text": "…"}}')
        yield text.splitlines()
