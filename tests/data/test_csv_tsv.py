"""Delimited files: what is accepted, and one clear line for what is not."""

from __future__ import annotations

import csv
import gzip
import threading

import pytest

from elbert.data import load_data, read_texts
from elbert.errors import DataError, UsageError


def test_csv_with_quotes_commas_and_line_ends_keeps_every_character(write):
    path = write("a.csv", 'text,label\r\n"a, ""b""\r\nc",x\r\nd,y\r\n')
    data = load_data(path)
    assert data.texts == ['a, "b"\r\nc', "d"]
    assert data.labels == [0, 1]
    assert data.label_space.names == ("x", "y")


def test_byte_order_mark_and_crlf_are_accepted(write):
    path = write("a.csv", b"\xef\xbb\xbftext,label\r\ng\xc3\xb6,x\r\nb,y\r\n")
    assert load_data(path).texts == ["gö", "b"]


def test_gzip_files_are_unpacked_on_the_way(write):
    path = write("a.csv.gz", gzip.compress(b"text,label\na,x\nb,y\n"))
    assert load_data(path).texts == ["a", "b"]


def test_unicode_line_separators_inside_a_text_do_not_end_the_row(write):
    text = "a\u2028b\x85c\x0bd\x1ce"
    assert load_data(write("a.csv", f"text,label\n{text},x\n")).texts == [text]
    assert load_data(write("a.tsv", f"text\tlabel\n{text}\tx\n")).texts == [text]


def test_stray_quotes_in_tsv_are_plain_characters(write):
    path = write("a.tsv", 'sentence\tlabel\n"unclosed\t1\nsay "hi" there\t0\n')
    assert load_data(path).texts == ['"unclosed', 'say "hi" there']


def test_cola_is_known_by_its_shape_without_a_header(write):
    path = write("train.tsv", "gj04\t1\t\tThe sailors rode.\ncj99\t0\t*\tWhat you want.\n")
    data = load_data(path)
    assert data.texts == ["The sailors rode.", "What you want."]
    assert data.labels == [1, 0]


def test_blank_lines_in_csv_are_skipped_and_the_error_still_names_the_file_line(write):
    path = write("a.csv", "text,label\n\na,x\n\nb,\n")
    with pytest.raises(DataError, match=r"row 2 \(line 5\): the label is missing"):
        load_data(path)


def test_a_row_of_several_lines_is_counted_once_and_lines_go_on(write):
    path = write("a.csv", 'text,label\n"a\nb\nc",x\nd,y,z\n')
    with pytest.raises(DataError, match=r"row 2 \(line 5\): cells: 3, where the header names 2"):
        load_data(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_ragged_rows_are_refused_with_row_and_line(write, name):
    separator = "," if name.endswith("csv") else "\t"
    path = write(name, f"text{separator}label\na{separator}x\nb\n")
    with pytest.raises(DataError, match=r"row 2 \(line 3\): cells: 1, where the header names 2"):
        load_data(path)


def test_a_quote_that_never_closes_is_refused_at_its_row(write):
    with pytest.raises(DataError, match=r"row 2 \(line 3\): not valid CSV \(a quote opened here never closes\)"):
        load_data(write("a.csv", 'text,label\na,x\n"b,y\nc,x\n'))


def test_old_mac_line_ends_are_refused(write):
    with pytest.raises(DataError, match=r"not valid CSV \(a carriage return outside quotes; save with LF"):
        load_data(write("a.csv", "text,label\ra,x\rb,y\r"))


def test_a_cell_beyond_pythons_own_limit_is_read_and_the_limit_put_back(write):
    before = csv.field_size_limit()
    text = "long " * 60_000
    assert load_data(write("a.csv", f"text,label\n{text},x\nb,y\n")).texts[0] == text
    assert csv.field_size_limit() == before


def test_the_cell_limit_is_back_in_place_between_two_rows_of_a_stream(write):
    before = csv.field_size_limit()
    stream = read_texts(write("a.csv", "text\na\nb\n"))
    next(stream)
    assert csv.field_size_limit() == before
    stream.close()


def test_two_threads_may_read_long_cells_at_once(write):
    before = csv.field_size_limit()
    path = write("a.csv", "text,label\n" + f"{'x' * 200_000},x\n" * 30)
    lengths: list[int] = []
    threads = [threading.Thread(target=lambda: lengths.append(len(load_data(path)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [30] * 4
    assert csv.field_size_limit() == before


def test_duplicate_column_names_are_refused(write):
    with pytest.raises(DataError, match="column 'text' occurs twice"):
        load_data(write("a.csv", "text,text,label\na,b,x\n"))


def test_several_unnamed_columns_do_no_harm(write):
    assert load_data(write("a.csv", ",,text,label\n0,0,a,x\n")).texts == ["a"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_an_empty_file_is_refused(write, name):
    with pytest.raises(DataError, match="the file is empty"):
        load_data(write(name, ""))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_header_alone_is_refused(write, name):
    separator = "," if name.endswith("csv") else "\t"
    with pytest.raises(DataError, match="no rows under the header"):
        load_data(write(name, f"text{separator}label\n"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_broken_utf8_names_row_line_and_byte_offset(write, name):
    separator = b"," if name.endswith("csv") else b"\t"
    content = b"text" + separator + b"label\nab" + separator + b"x\nc\xffd" + separator + b"y\n"
    with pytest.raises(
        DataError, match=rf"row 2 \(line 3\): byte 0xff at byte offset {content.index(0xFF)} is not UTF-8"
    ):
        load_data(write(name, content))


def test_the_byte_offset_counts_the_byte_order_mark(write):
    content = b"\xef\xbb\xbftext,label\nab,x\n\xe9,y\n"
    with pytest.raises(DataError, match=f"byte offset {content.index(0xE9)} "):
        load_data(write("a.csv", content))


def test_broken_utf8_in_the_header_says_header(write):
    with pytest.raises(DataError, match=r"header \(line 1\): byte 0xe9"):
        load_data(write("a.csv", b"t\xe9xt,label\na,x\n"))


def test_utf16_is_recognised_and_the_remedy_named(write):
    with pytest.raises(DataError, match="looks like UTF-16: save it as UTF-8"):
        load_data(write("a.csv", "text,label\na,x\n".encode("utf-16")))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_nul_bytes_name_the_row(write, name):
    separator = "," if name.endswith("csv") else "\t"
    with pytest.raises(DataError, match=r"row 2 \(line 3\): NUL byte at byte offset"):
        load_data(write(name, f"text{separator}label\na{separator}x\nb\0c{separator}y\n"))


def test_gzip_within_gzip_is_called_packed(write):
    with pytest.raises(DataError, match="it looks packed: unpack it first"):
        load_data(write("a.csv.gz", gzip.compress(gzip.compress(b"text,label\na,x\nb,y\n"))))


def test_damaged_gzip_is_refused(write):
    whole = gzip.compress(b"text,label\n" + b"".join(b"row %d,x\n" % row for row in range(5000)))
    with pytest.raises(DataError, match=r"a\.csv\.gz: row \d+ .*damaged gzip file"):
        load_data(write("a.csv.gz", whole[:-200]))
    with pytest.raises(DataError, match=r"header \(line 1\): damaged gzip file"):
        load_data(write("b.csv.gz", whole[:12]))


def test_semicolons_between_columns_are_pointed_out(write):
    with pytest.raises(UsageError, match="separates its columns with commas"):
        load_data(write("a.csv", "text;label\na;x\n"))


def test_a_text_of_no_characters_is_a_text(write):
    assert load_data(write("a.csv", "text,label\n,x\nb,y\n")).texts == ["", "b"]


def test_a_text_of_a_hundred_thousand_characters_is_fine(write):
    text = "ä" * 100_000
    assert load_data(write("a.tsv", f"text\tlabel\n{text}\tx\n")).texts == [text]
