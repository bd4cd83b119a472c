r"""Bytes to lines: opens plain and gzip files and decodes UTF-8 line by line, remembering where it is.

A file that is not what its name says (a Git LFS pointer, a zip called .csv, plain text called .gz) is known by its
first bytes.

Lines end at `\n` only (CRLF passes through), never at the other characters `str.splitlines` knows, because those occur
inside texts. Memory is bounded by the longest line. What a line means is the readers' business.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from elbert.data.table import BrokenRowError
from elbert.errors import DataError, UsageError

_POINTER = re.compile(rb"version https?://\S+/spec/v\d|/annex/objects/")
# First bytes -> what it is, and how to mend it; {stem} is the name without its last extension.
_SIGNATURES = {
    b"\x1f\x8b": "gzip: call it {name}.gz",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"PK\x05\x06": "an empty zip archive: give the file itself",
    b"BZh91AY&SY": "bzip2: unpack it, or pack it as .gz",
    b"7z\xbc\xaf": "7-Zip: unpack it, or pack it as .gz",
    b"\xfd7zXZ\x00": "xz: unpack it, or pack it as .gz",
    b"\x28\xb5\x2f\xfd": "zstd: unpack it, or pack it as .gz",
    b"PAR1": "Parquet: call it {stem}.parquet",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet: save it as CSV",
    b"SQLite format 3": "a database: save the table as CSV",
}
_PACKED = (".zip", ".bz2", ".xz", ".zst", ".7z")
_SAVE = "save the file as UTF-8"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacking it on the way where its name ends in `.gz`.

    Raises:
        UsageError: the file cannot be opened.
        DataError: it is something else than its name says.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(200)
        _check_start(path, start)
        return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from None


def pointer_problem(start: bytes) -> str | None:
    """Return what to say of a file that only points at its content, as a clone without Git LFS leaves it, else None.

    Args:
        start: its first bytes.
    """
    if not _POINTER.match(start):
        return None
    what, how = ("git-annex", "git annex get") if start.startswith(b"/annex") else ("Git LFS", "git lfs pull")
    return f"is a {what} pointer, not the file itself: run {how}"


def _check_start(path: Path, start: bytes) -> None:
    """Refuse a file whose first bytes say that it is no data, or packed otherwise than its name says."""
    if pointer := pointer_problem(start):
        raise DataError(f"{path} {pointer}")
    extension = path.suffix.lower()
    signature = next((known for known in _SIGNATURES if start.startswith(known)), None)
    if extension == ".gz":
        if start and signature != b"\x1f\x8b":
            raise DataError(f"{path} is not gzip, despite its name: {_remedy(path, start, signature)}")
    elif signature is not None and (extension, signature) != (".parquet", b"PAR1"):
        raise DataError(f"{path} is {_SIGNATURES[signature].format(name=path.name, stem=path.stem)}")


def check_unpacked(path: Path) -> None:
    """Refuse a file whose name says that it is packed in a way nothing here unpacks.

    Raises:
        DataError: it has such a name; says whether it is plain text all the same.
        UsageError: the file cannot be opened.
    """
    if path.suffix.lower() not in _PACKED:
        return
    try:
        with path.open("rb") as stream:
            start = stream.read(200)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from None
    _check_start(path, start)
    raise DataError(f"{path} is not packed, despite its name: {_remedy(path, start, None)}")


def _remedy(path: Path, start: bytes, signature: bytes | None) -> str:
    """Return what to do with a file that its name calls packed."""
    if signature is not None:
        return f"it is {_SIGNATURES[signature].format(name=path.stem, stem=path.stem)}"
    looks_text = b"\0" not in start and not start.startswith(UTF16_MARKS)
    return f"it is plain text, so call it {path.stem}" if looks_text else "pack or fetch it again"


def read_lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a UTF-8 stream, each with its line end, a leading byte order mark dropped.

    Raises:
        BrokenRowError: bytes that are not UTF-8, a NUL byte, or a damaged gzip stream; holds the 1-based line.
    """
    offset, line = 0, 1
    while raw := _read_line(stream, line):
        start = len(BYTE_ORDER_MARK) if line == 1 and raw.startswith(BYTE_ORDER_MARK) else 0
        try:
            text = raw[start:].decode("utf-8")
        except UnicodeDecodeError as error:
            place = offset + start + error.start
            mend = _mend(raw) if line == 1 else _SAVE
            raise BrokenRowError(
                line, f"byte 0x{raw[start + error.start]:02x} at byte offset {place} is not UTF-8; {mend}"
            ) from None
        if "\0" in text:
            place = offset + raw.index(b"\0")
            raise BrokenRowError(line, f"NUL byte at byte offset {place}; texts hold none: remove it, or save as UTF-8")
        yield text
        offset, line = offset + len(raw), line + 1


def _mend(start: bytes) -> str:
    """Return what to do with text that begins with bytes which are no UTF-8."""
    if start.startswith(UTF16_MARKS):
        return f"the file looks like UTF-16: {_SAVE.replace('the file', 'it')}"
    return "it looks packed: unpack it first" if any(map(start.startswith, _SIGNATURES)) else _SAVE


def _read_line(stream: BinaryIO, line: int) -> bytes:
    """Return the next line's bytes, `b""` at the end."""
    try:
        return stream.readline()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BrokenRowError(line, f"damaged gzip file ({error}); pack or fetch it again") from None
