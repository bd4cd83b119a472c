"""JSON lines, Parquet and plain text."""

from __future__ import annotations

import gzip
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elbert.data import load_data, read_texts
from elbert.errors import DataError, MissingExtraError


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_json_lines_are_read_and_blank_lines_skipped(write, name):
    path = write(name, '\ufeff{"text": "a", "label": 0}\r\n\r\n{"text": "b", "label": 1}\n')
    data = load_data(path)
    assert data.texts == ["a", "b"]
    assert data.label_space.names == ("0", "1")


def test_invalid_json_names_row_and_line(write):
    with pytest.raises(DataError, match=r"row 2 \(line 4\): not valid JSON"):
        load_data(write("a.jsonl", '{"text": "a", "label": 0}\n\n\n{"text": \n'))


def test_a_number_too_long_for_python_is_invalid_json_and_no_crash(write):
    with pytest.raises(DataError, match=r"row 1 \(line 1\): not valid JSON"):
        load_data(write("a.jsonl", '{"text": "a", "label": ' + "1" * 5000 + "}\n"))


def test_a_json_array_is_refused_with_the_remedy(write):
    with pytest.raises(DataError, match="is not a JSON object; write one object a line"):
        load_data(write("a.json", '[{"text": "a", "label": 0}]\n'))


def test_a_key_twice_in_one_object_is_refused(write):
    with pytest.raises(DataError, match=r"row 1 \(line 1\): key 'text' occurs twice"):
        load_data(write("a.jsonl", '{"text": "a", "text": "b", "label": 0}\n'))


def test_an_empty_json_file_is_refused(write):
    with pytest.raises(DataError, match="no rows; give at least one"):
        load_data(write("a.jsonl", ""))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"text": null, "label": 0}', r"row 2 \(line 2\), column 'text': the text is missing"),
        ('{"label": 0}', r"row 2 \(line 2\), column 'text': the text is missing"),
        ('{"text": NaN, "label": 0}', r"row 2 \(line 2\), column 'text': the text is missing"),
        ('{"text": 5, "label": 0}', r"row 2 \(line 2\), column 'text': 5 is of type int, not a text"),
        ('{"text": "a\\u0000b", "label": 0}', r"row 2 \(line 2\), column 'text': NUL character at position 1"),
        ('{"text": "ab\\ud800", "label": 0}', "half a surrogate pair at position 2"),
        ('{"text": "b"}', r"row 2 \(line 2\): the label is missing \(None\)"),
        ('{"text": "b", "label": NaN}', r"row 2 \(line 2\): the label is missing \(nan\)"),
        ('{"text": "b", "label": ""}', r"row 2 \(line 2\): the label is missing \(''\)"),
        ('{"text": "b", "label": {"a": 1}}', r"row 2 \(line 2\): label \{'a': 1\} is of type dict"),
        ('{"text": "b", "label": [1]}', r"row 2 \(line 2\): label \[1\] beside 0 in row 1"),
        ('{"text": "b", "label": "good"}', r"row 2 \(line 2\): labels are part words \('good'\), part numbers \('0'\)"),
        ('{"text": "b", "text_pair": "c", "label": 1}', "has 'text_pair', which the first row has not"),
    ],
)
def test_each_bad_row_gets_its_own_line(write, second, message):
    with pytest.raises(DataError, match=message):
        load_data(write("a.jsonl", '{"text": "a", "label": 0}\n' + second + "\n"))


def test_an_escaped_surrogate_pair_is_one_character(write):
    assert load_data(write("a.jsonl", '{"text": "\\ud83d\\ude00", "label": 0}\n')).texts == ["😀"]


def parquet(write, name="a.parquet", **columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content = sink.getvalue().to_pybytes()
    return write(name, gzip.compress(content) if name.endswith(".gz") else content)


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
def test_parquet_is_read_whole(write, name):
    texts = [f"text {row}" for row in range(2500)]
    data = load_data(parquet(write, name, text=texts, label=[row % 3 for row in range(2500)]))
    assert data.texts == texts
    assert data.labels == [row % 3 for row in range(2500)]


def test_parquet_lists_are_label_sets(write):
    data = load_data(parquet(write, text=["a", "b", "c"], label=[["x", "y"], [], ["y"]]))
    assert data.label_space.problem_type == "multi_label_classification"
    assert data.labels == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]


def test_parquet_null_text_and_label_name_the_row(write):
    with pytest.raises(DataError, match=r"a\.parquet: row 2, column 'text': the text is missing"):
        load_data(parquet(write, text=["a", None], label=[0, 1]))
    with pytest.raises(DataError, match=r"a\.parquet: row 2: the label is missing"):
        load_data(parquet(write, text=["a", "b"], label=pa.array([0, None], pa.int64())))


@pytest.mark.parametrize("name", ["a.parquet", "a.parquet.gz"])
def test_what_is_no_parquet_is_refused(write, name):
    content = b"PAR1 but nothing more"
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_data(write(name, gzip.compress(content) if name.endswith(".gz") else content))
    with pytest.raises(DataError, match=r"not a readable Parquet file|not gzip, despite its name: it is Parquet: call"):
        load_data(write(name, content))


def test_damaged_parquet_data_is_refused(write):
    path = parquet(write, text=[f"some text {row * row}" for row in range(3000)], label=list(range(3000)))
    content = bytearray(path.read_bytes())
    content[4:2000] = b"\xff" * 1996
    with pytest.raises(DataError, match=r"damaged Parquet data|not a readable Parquet file"):
        load_data(write("b.parquet", bytes(content)))


def test_parquet_text_that_is_not_utf8_names_the_row(write):
    column = pa.array([b"good", b"b\xffd"], pa.binary())
    broken = pa.StringArray.from_buffers(2, column.buffers()[1], column.buffers()[2])
    with pytest.raises(DataError, match=r"row 2: a text is not UTF-8 \(byte offset 1 of it\)"):
        load_data(parquet(write, text=broken, label=[0, 1]))


def test_parquet_without_pyarrow_names_the_extra(write, monkeypatch):
    path = parquet(write, text=["a"], label=[0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow .* pip install 'elbert\[train\]'"):
        load_data(path)


def test_csv_and_jsonl_need_neither_pandas_nor_pyarrow(write, monkeypatch):
    for module in ("pandas", "pyarrow", "datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    assert len(load_data(write("a.csv", "text,label\na,x\nb,y\n"))) == 2
    assert len(load_data(write("a.jsonl", '{"text": "a", "label": 0}\n'))) == 1


def test_every_line_of_plain_text_is_a_text_even_an_empty_one(write):
    path = write("a.txt", "one\r\n\n two\t\nlast")
    assert list(read_texts(path)) == [(1, "one"), (2, ""), (3, " two\t"), (4, "last")]
