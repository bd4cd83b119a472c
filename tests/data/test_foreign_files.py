"""Files as other programs leave them: packed under another name, pointers, quoted, ragged, tables called .txt."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import warnings
import zipfile

import pandas as pd
import pytest

from elbert.data import load_data, load_texts, read_texts
from elbert.errors import DataError, DataWarning, UsageError

CSV = "text,label\na,x\nb,y\n"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345\n"


def zipped(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("train.csv", content)
    return out.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet", "a.txt", "a.csv.gz", "a.csv.zip"])
def test_a_git_lfs_pointer_is_told_whatever_it_stands_for(write, name):
    path = write(name, POINTER)
    with pytest.raises(DataError, match=r"is a Git LFS pointer, not the file itself: run git lfs pull"):
        load_data(path)
    with pytest.raises(DataError, match="git lfs pull"):
        list(read_texts(path))


def test_a_git_annex_pointer_is_told(write):
    with pytest.raises(DataError, match="git-annex pointer, not the file itself: run git annex get"):
        load_data(write("a.csv", "/annex/objects/SHA256E-s12--0f.csv\n"))


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (gzip.compress(CSV.encode(), mtime=0), r"is gzip: call it a\.csv\.gz"),
        (zipped(CSV), "is a zip archive or a spreadsheet: unpack it, or save the sheet as CSV"),
        (bz2.compress(CSV.encode()), r"is bzip2: unpack it, or pack it as \.gz"),
        (lzma.compress(CSV.encode()), r"is xz: unpack it, or pack it as \.gz"),
        (b"PAR1....PAR1", r"is Parquet: call it a\.parquet"),
    ],
    ids=["gzip", "zip", "bzip2", "xz", "parquet"],  # not their bytes: a zip holds the time it was made
)
def test_a_packed_file_under_a_plain_name_is_told_by_its_own(write, content, remedy):
    with pytest.raises(DataError, match=remedy):
        load_data(write("a.csv", content))


@pytest.mark.parametrize("kind", ["gz", "zip", "bz2", "xz"])
def test_plain_text_under_a_packed_name_is_told(write, kind):
    with pytest.raises(
        DataError, match=rf"a\.csv\.{kind} is not .*despite its name: it is plain text, so call it a\.csv$"
    ):
        load_data(write(f"a.csv.{kind}", CSV))


@pytest.mark.parametrize(("kind", "pack"), [("zip", zipped), ("bz2", lambda text: bz2.compress(text.encode()))])
def test_what_is_packed_otherwise_than_as_gzip_is_told(write, kind, pack):
    with pytest.raises(DataError, match="unpack it"):
        load_data(write(f"a.csv.{kind}", pack(CSV)))


def test_a_zip_called_gz_is_told_as_what_it_is(write):
    with pytest.raises(DataError, match="is not gzip, despite its name: it is a zip archive"):
        load_data(write("a.csv.gz", zipped(CSV)))


@pytest.mark.parametrize("first", ["sep=;\n", "sep=;\r\n", '"sep=;"\n', "\ufeffSEP=;\n"])
def test_a_first_line_that_names_the_separator_is_obeyed(write, first):
    data = load_data(write("a.csv", first + 'text;label\n"a;b";x\nc, d;y\n'))
    assert data.texts == ["a;b", "c, d"]
    with pytest.raises(DataError, match=r"row 1 \(line 3\): the label is missing"):
        load_data(write("b.csv", first + "text;label\na;\n"))


def test_semicolons_without_that_line_are_named_with_it(write):
    with pytest.raises(UsageError, match=r"separates its columns with commas, unless its first line is sep=;"):
        load_data(write("a.csv", "text;label\na;x\n"))


TEXTS = ['He said "no"', "two\ttabs", "two\nlines", "plain", '"', ""]


def test_a_tsv_by_pandas_is_told_and_read_with_its_quotes_when_asked_to(tmp_path):
    path = tmp_path / "t.tsv"
    frame = pd.DataFrame({"text": TEXTS, "label": list("xyxyxy")})
    frame.to_csv(path, sep="\t", index=False)
    data = load_data(path, input_format="tsv-quoted")
    assert data.texts == TEXTS
    assert [text for _, text in read_texts(path, input_format="tsv-quoted")] == TEXTS
    for row in range(len(TEXTS)):
        frame.iloc[[row]].to_csv(path, sep="\t", index=False)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                texts = load_data(path).texts
            except DataError as error:
                texts, told = [], [*told, error]
        assert texts == [TEXTS[row]] or any(
            "--input-format tsv-quoted" in str(getattr(each, "message", each)) for each in told
        )


def test_a_quoted_cell_is_told_once_and_kept_as_it_stands(write):
    path = write("a.tsv", 'sentence\tlabel\n"He said ""no"""\t0\n"He said ""yes"""\t1\n')
    with pytest.warns(DataWarning, match="line 2 looks quoted .* --input-format tsv-quoted") as told:
        assert load_data(path).texts == ['"He said ""no"""', '"He said ""yes"""']
    assert len(told) == 1


@pytest.mark.filterwarnings("error::elbert.errors.DataWarning")
def test_glues_own_quotes_are_not_taken_for_quoting(write):
    path = write("a.tsv", 'sentence\tlabel\n"a" and "b"\t0\n``c" "\t1\n"d"\t0\n""e""\t0\n')
    assert load_data(path).texts == ['"a" and "b"', '``c" "', '"d"', '""e""']


def test_a_tsv_by_r_is_known_by_its_header(write):
    path = write("a.tsv", '"text"\t"label"\n"a"\t"x"\n"b"\t"y"\n')
    with pytest.raises(UsageError, match="header's cells are quoted.*--input-format tsv-quoted"):
        load_data(path)
    assert load_data(path, input_format="tsv-quoted").label_space.names == ("x", "y")


def test_a_tsv_row_of_another_width_is_told_in_words_about_tsv(write):
    with pytest.raises(DataError, match=r"row 1 .* a text in a \.tsv holds no tab .* --skip-broken-rows") as caught:
        load_data(write("a.tsv", "text\tlabel\na\tb\tx\n"))
    assert "CSV" not in str(caught.value)


QQP = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def qqp(write, name="train.tsv"):
    rows = [f"{row}\t1\t2\tis it {row}?\tis it {row}, then?\t{row % 2}\n" for row in range(50)]
    return write(name, QQP + "".join([*rows[:20], '"\tWas he real?\t0\n', *rows[20:]]))


def test_rows_of_another_width_are_skipped_and_counted_when_asked_to(write):
    path = qqp(write)
    with pytest.raises(DataError, match=r"row 21 \(line 22\): cells: 3, where the header names 6.*--skip-broken-rows"):
        load_data(path)
    with pytest.warns(DataWarning, match=r"1 of 51 rows skipped; the first: .*row 21 \(line 22\)"):
        data = load_data(path, skip_broken_rows=True)
    assert len(data) == 50
    assert data.texts[20] == ("is it 20?", "is it 20, then?")
    with pytest.warns(DataWarning, match="1 of 51 rows skipped"):
        assert [row for row, _ in read_texts(path, skip_broken_rows=True)] == [*range(1, 21), *range(22, 52)]
    with pytest.warns(DataWarning, match="1 of 51 rows skipped"):
        assert load_texts(path, skip_broken_rows=True).texts == data.texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\na,x\nb\nc,,y\n,\n"d\ne",y\n'),
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": \n[1]\n{"label": "x"}\n{"text": "d\\ne", "label": "y"}\n'),
        (
            "b.jsonl",
            '{"tex\n[1]\n{"text": "a", "label": "x"}\n{"text": 5, "label": "x"}\n{"text": "d\\ne", "label": "y"}\n',
        ),
        ("a.tsv", "text\tlabel\na\tx\nb\nc\td\te\nf\t\nd\ne\ty\n"),
    ],
)
def test_every_kind_of_broken_row_is_skipped_and_counted(write, name, content):
    with pytest.warns(DataWarning, match=r"[34] of [56] rows skipped; the first: .*row [12]"):
        data = load_data(write(name, content), skip_broken_rows=True)
    assert [str(text).split("\n")[-1] for text in data.texts] == ["a", "e"]
    assert data.labels == [0, 1]


def test_items_and_class_ids_that_fit_nothing_are_skipped_likewise():
    with pytest.warns(DataWarning, match="2 of 4 rows skipped"):
        assert load_texts(["a", 5, "b", ("c", "d")], skip_broken_rows=True).texts == ["a", "b"]


def test_a_source_of_nothing_but_broken_rows_is_an_error(write):
    with pytest.raises(DataError, match=r"row 1 \(line 2\): cells: 1"):
        load_data(write("a.csv", "text,label\na\nb\n"), skip_broken_rows=True)


def test_what_is_wrong_with_the_whole_file_is_never_skipped(write):
    for content in ('text,label\na,x\n"b,y\nc,x\n', b"text,label\na,x\n\xff,y\nc,x\n"):
        with pytest.raises(DataError, match="row 2"):
            load_data(write("a.csv", content), skip_broken_rows=True)


MRPC = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said so.\tSo he said.\n0\t9\t10\tA.\tB.\n"


def test_a_table_called_txt_is_told_and_read_when_its_format_is_named(write):
    path = write("msr_train.txt", MRPC)
    for read in (load_data, load_texts, lambda source: list(read_texts(source))):
        with pytest.raises(UsageError, match=r"its first line 'Quality.* names columns.*--input-format tsv"):
            read(path)
    data = load_data(path, input_format="tsv")
    assert data.texts == [("He said so.", "So he said."), ("A.", "B.")]
    assert data.labels == [1, 0]
    assert len(list(read_texts(path, input_format="txt"))) == 3


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("text,label", "csv"),
        ("id,text", "csv"),
        ('"text","label"', "csv"),
        ("premise\thypothesis", "tsv"),
        ('{"text": "a"}', "jsonl"),
    ],
)
def test_other_tables_called_txt_are_told_too(write, first, kind):
    with pytest.raises(UsageError, match=f"--input-format {kind}"):
        load_texts(write("a.txt", first + "\nx,y\n"))


@pytest.mark.parametrize(
    "line", ["a text, with a label", "text", "Review: good, I think", "one\ttwo", "the label; the text", "{}"]
)
def test_ordinary_lines_are_texts(write, line):
    assert load_texts(write("a.txt", line + "\nmore\n")).texts == [line, "more"]


def test_a_table_on_standard_input_is_told(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text,label\na,x\n")))
    with pytest.raises(UsageError, match="standard input: its first line 'text,label' names columns"):
        list(read_texts("-"))


FASTTEXT = "__label__joy __label__love I am  happy\n__label__anger so mad\n\n  __label__joy\tfine, thanks\n"


def test_fasttexts_own_files_are_no_plain_text_and_the_format_that_reads_them_is_named(write):
    path = write("a.txt", FASTTEXT)
    for read in (load_data, lambda source: list(read_texts(source))):
        with pytest.raises(UsageError, match="read it with --input-format fasttext, or with txt"):
            read(path)
    with pytest.warns(
        DataWarning, match="multi-label classification, classes 'anger', 'joy', 'love', because 1 of 3 labelled"
    ):
        data = load_data(path, input_format="fasttext")
    assert data.texts == ["I am  happy", "so mad", "fine, thanks"]
    assert data.labels == [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert [text for _, text in read_texts(path, input_format="fasttext")] == data.texts


def test_one_fasttext_label_a_line_is_single_label(write):
    data = load_data(write("a.txt", "__label__2 x y\n__label__1 , z\n"), input_format="fasttext")
    assert (data.label_space.names, data.labels, data.texts) == (("1", "2"), [1, 0], ["x y", ", z"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no label", r"row 2 \(line 2\): the label is missing"),
        ("__label__a;b x", r"row 2 \(line 2\): label 'a;b' holds"),
        ("__label__a", r"row 2 \(line 2\): the line holds labels and no text"),
        ("__label__ x", r"row 2 \(line 2\): __label__ stands alone"),
    ],
)
@pytest.mark.parametrize("first", ["__label__a x", "__label__a __label__b x"])
def test_a_fasttext_line_without_label_or_text_names_itself(write, first, line, problem):
    path = write("a.txt", f"{first}\n{line}\n__label__b y\n")
    with pytest.raises(DataError, match=f"{problem}.*; or --skip-broken-rows leaves such rows out"):
        load_data(path, input_format="fasttext")
    with pytest.warns(DataWarning, match=r"1 of 3 rows skipped"):
        data = load_data(path, input_format="fasttext", skip_broken_rows=True)
    assert data.texts == ["x", "y"]


def test_texts_of_fasttext_lines_need_no_label(write):
    path = write("a.txt", "__label__a __label__b x\ny\n")
    assert [text for _, text in read_texts(path, input_format="fasttext")] == ["x", "y"]


def test_fasttexts_labels_are_classes_however_they_are_written(write):
    data = load_data(
        write("a.txt", "__label__4.5 x\n__label__a,b y\n__label__a z\n__label__b z2\n"), input_format="fasttext"
    )
    assert (data.label_space.problem_type, data.label_space.names) == (
        "single_label_classification",
        ("4.5", "a", "a,b", "b"),
    )


DAYS = ["2024-01-31", "2024-02-29", "2024-01-31"]


@pytest.mark.parametrize(
    "labels",
    [
        pd.to_datetime(DAYS),
        pd.to_datetime(DAYS).to_numpy(),
        pd.to_datetime(DAYS).date,
        DAYS,
    ],
)
def test_days_are_named_as_a_csv_file_writes_them(write, tmp_path, labels):
    columns = {"text": ["a", "b", "c"], "label": labels}
    frame = pd.DataFrame(columns)
    frame.to_parquet(tmp_path / "a.parquet")
    path = write("a.csv", frame.to_csv(index=False))
    for source in (frame, columns, tmp_path / "a.parquet", path):
        data = load_data(source)
        assert (data.label_space.names, data.labels) == (("2024-01-31", "2024-02-29"), [0, 1, 0])


def test_moments_and_times_of_day_are_named_as_a_csv_file_writes_them(write):
    for labels in (
        pd.to_datetime(["2024-01-31 10:20", "2024-01-31 11:00"]),
        pd.Series(pd.to_datetime(["2024-01-31 10:20", "2024-01-31 11:00"])).dt.time,
    ):
        frame = pd.DataFrame({"text": ["a", "b"], "label": labels})
        names = load_data(frame).label_space.names
        assert names == load_data(write("a.csv", frame.to_csv(index=False))).label_space.names


def test_why_a_row_was_skipped_does_not_advise_to_skip_it(write):
    path = write("a.csv", "text,label\na,x\nb,y,z\nc,y\n")
    with pytest.raises(DataError, match=r"cells: 3.*; or --skip-broken-rows leaves such rows out$"):
        load_data(path)
    with pytest.warns(DataWarning) as told:
        load_data(path, skip_broken_rows=True)
    (skipped,) = [str(each.message) for each in told if "skipped" in str(each.message)]
    assert "skip-broken-rows" not in skipped


def test_fasttext_labels_in_a_column_are_several_labels(write):
    with pytest.raises(DataError, match="looks like several labels in one cell"):
        load_data(write("a.csv", "text,label\nx,__label__a __label__b\ny,__label__c\n"))
