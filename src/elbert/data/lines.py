r"""Bytes to lines: opens plain and gzip files and decodes UTF-8 line by line, remembering where it is.

Lines end at `\n` only (CRLF passes through), never at the other characters `str.splitlines` knows, because those occur
inside texts. Memory is bounded by the longest line. What a line means is the readers' business.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from elbert.data.table import BrokenRowError
from elbert.errors import UsageError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def open_stream(path: Path) -> BinaryIO:
    """Open a file for reading bytes, unpacking it on the way where its name ends in `.gz`.

    Raises:
        UsageError: the file cannot be opened.
    """
    try:
        return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from None


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
            utf16 = line == 1 and raw.startswith(UTF16_MARKS)
            place = offset + start + error.start
            raise BrokenRowError(
                line,
                f"byte 0x{raw[start + error.start]:02x} at byte offset {place} is not UTF-8; "
                + ("the file looks like UTF-16: save it as UTF-8" if utf16 else "save the file as UTF-8"),
            ) from None
        if "\0" in text:
            place = offset + raw.index(b"\0")
            raise BrokenRowError(line, f"NUL byte at byte offset {place}; texts hold none: remove it, or save as UTF-8")
        yield text
        offset, line = offset + len(raw), line + 1


def _read_line(stream: BinaryIO, line: int) -> bytes:
    """Return the next line's bytes, `b""` at the end."""
    try:
        return stream.readline()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BrokenRowError(line, f"damaged gzip file ({error}); pack or fetch it again") from None
