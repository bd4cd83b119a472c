from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pytest

from elbert.errors import DataError, UsageError
from elbert.pretraining.readers import check_corpus, read_documents, split_sentences

TEXT = "Title\nFirst sentence. Second one!\n\n\nOther\nThird?\n"
DOCUMENTS = [["Title", "First sentence.", "Second one!"], ["Other", "Third?"]]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz", "A.TXT"])
def test_documents_are_separated_by_blank_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wb") as stream:
        stream.write(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    check_corpus(path)
    assert list(read_documents(path)) == DOCUMENTS


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_json_line_is_a_document(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    lines = "\n".join(json.dumps({"text": "\n".join(document), "label": -1}) for document in DOCUMENTS)
    with (gzip.open if name.endswith(".gz") else open)(path, "wb") as stream:
        stream.write(f"{lines}\n\n{json.dumps({'text': '  '})}\n".encode())
    assert list(read_documents(path)) == DOCUMENTS


def test_sentences_end_where_a_new_one_seems_to_begin() -> None:
    paragraph = 'It cost 3.5 million.<br /><br />He said "Stop!" and left. "Why?" She knew (almost). 42 people came'
    assert split_sentences(paragraph) == [
        "It cost 3.5 million.",
        'He said "Stop!" and left.',
        '"Why?"',
        "She knew (almost).",
        "42 people came",
    ]


def test_a_missing_file_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no corpus file .*nowhere.txt"):
        check_corpus(tmp_path / "nowhere.txt")
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(UsageError, match=r"'a.csv' has an unknown ending; allowed: .txt, .txt.gz, .txt.xz, .jsonl"):
        check_corpus(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="no corpus file"):
        check_corpus(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\nb\xff\xfed\n", "line 2: not UTF-8"),
        ("a.txt.gz", b"no gzip at all", "compression is broken"),
        ("a.txt.gz", gzip.compress(b"a line\n" * 1000, mtime=0)[:-20], "compression is broken"),
        ("a.txt.xz", b"no xz at all", "compression is broken"),
        ("a.txt.xz", lzma.compress(b"a line\n" * 1000)[:-20], "compression is broken"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2: not JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"body": "y"}\n', "line 2: no 'text' string"),
        ("a.jsonl", b'["x"]\n', "line 1: no 'text' string"),
    ],
)
def test_broken_content_is_named_by_file_and_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_documents(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz"])
def test_a_pointer_is_no_corpus(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match="is a Git LFS pointer, not the file itself: run git lfs pull"):
        check_corpus(path)
