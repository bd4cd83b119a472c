"""The streaming reader of `predict`: the same rows as the full loader, one at a time."""

from __future__ import annotations

import io
import sys
import tracemalloc
from itertools import islice

import pytest

from elbert.data import load_data, read_texts
from elbert.errors import DataError, UsageError


@pytest.fixture
def stdin(monkeypatch):
    def feed(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return feed


def test_rows_are_numbered_from_one(write):
    path = write("a.csv", "text,other\na,1\nb,2\n")
    assert list(read_texts(path)) == [(1, "a"), (2, "b")]


def test_pairs_come_as_tuples(write):
    path = write("a.tsv", "sentence1\tsentence2\na\tb\n")
    assert list(read_texts(path)) == [(1, ("a", "b"))]


def test_columns_can_be_named(write):
    path = write("a.jsonl", '{"x": "a", "y": "b"}\n')
    assert list(read_texts(path, text_column="x")) == [(1, "a")]
    assert list(read_texts(path, text_column="x", text_pair_column="y")) == [(1, ("a", "b"))]


def test_the_stream_and_the_loader_give_the_same_texts(write):
    path = write("a.csv", 'text,label\n"a\n""b""",x\n,y\n')
    assert [text for _, text in read_texts(path)] == load_data(path).texts


def test_a_dash_reads_lines_from_standard_input(stdin):
    stdin("eins\n\nzwei ü\n".encode())
    assert list(read_texts("-")) == [(1, "eins"), (2, ""), (3, "zwei ü")]


def test_standard_input_stays_open(stdin):
    stdin(b"a\n")
    list(read_texts("-"))
    assert not sys.stdin.closed


@pytest.mark.parametrize(
    ("input_format", "content"),
    [
        ("jsonl", b'{"text": "a"}\n{"text": "b"}\n'),
        ("csv", b"text\na\nb\n"),
        ("tsv", b"text\na\nb\n"),
        ("txt", b"a\nb"),
    ],
)
def test_standard_input_takes_a_format(stdin, input_format, content):
    stdin(content)
    assert list(read_texts("-", input_format=input_format)) == [(1, "a"), (2, "b")]


def test_an_input_format_overrules_the_extension(write):
    assert list(read_texts(write("a.log", "a,b\n"), input_format="txt")) == [(1, "a,b")]


def test_an_unknown_input_format_names_the_known():
    with pytest.raises(UsageError, match=r"unknown input format 'json'; did you mean 'jsonl'\?"):
        list(read_texts("-", input_format="json"))


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_nothing_in_nothing_out(stdin, write, content):
    stdin(content)
    assert list(read_texts("-", input_format="jsonl")) == []


def test_texts_before_a_broken_row_are_given_first(write):
    stream = read_texts(write("a.txt", b"a\nb\n\xff\n"))
    assert [text for _, text in islice(stream, 2)] == ["a", "b"]
    with pytest.raises(DataError, match=r"row 3 \(line 3\): byte 0xff at byte offset 4"):
        next(stream)


def test_memory_does_not_grow_with_the_file(write):
    path = write("a.csv", "text,label\n" + "some words of a text,x\n" * 100_000)
    tracemalloc.start()
    count = sum(1 for _ in read_texts(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 1_000_000  # the file is 2.3 MB
