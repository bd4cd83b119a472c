"""Whatever a text or a label holds, it comes back as it was written, from every format; or one line says why not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elbert.cli.writers import FORMATS
from elbert.data import load_data, read_texts
from elbert.errors import DataError, DataWarning
from elbert.results import Prediction

characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
awkward = st.sampled_from(
    ['"', '""', ",", "\n", "\r\n", "\r", "\t", ";", "\u2028", "\x85", "\x1c", "\ufeff", "'", "\\"]
)
texts = st.lists(st.lists(awkward | st.text(characters, max_size=8), max_size=6).map("".join), min_size=1, max_size=8)


def write_csv(rows):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["text", "label"])
    writer.writerows(zip(rows, range(len(rows)), strict=True))
    return out.getvalue().encode("utf-8")


def write_jsonl(rows):
    lines = [json.dumps({"text": text, "label": row}, ensure_ascii=row % 2 == 0) for row, text in enumerate(rows)]
    return "\n".join(lines).encode("utf-8")


def write_parquet(rows):
    out = io.BytesIO()
    pq.write_table(pa.table({"text": rows, "label": list(range(len(rows)))}), out)
    return out.getvalue()


pytestmark = pytest.mark.filterwarnings("ignore::elbert.errors.DataWarning")  # one text may have two labels here


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("extension", "pack"), [("csv", write_csv), ("jsonl", write_jsonl), ("parquet", write_parquet)]
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=texts)
def test_texts_survive_the_file(tmp_path, extension, pack, packed, rows):
    path = tmp_path / f"data.{extension}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(pack(rows)) if packed else pack(rows))
    data = load_data(path)
    assert data.texts == rows
    assert data.labels == list(range(len(rows)))
    assert list(read_texts(path)) == list(enumerate(rows, start=1))


NAMES = st.one_of(
    st.integers(-20, 20).map(str),
    st.sampled_from(
        ["a", "b c", "d, e", "f;g", "1E50", "12E5", "1.10", "1.9", "2.0", "01", "True", "x|y", "[z]", "ü", "a"]
    ),
    st.text(characters, min_size=1, max_size=4).filter(lambda text: text.strip().casefold() not in ("", "nan")),
)
TABLES = st.lists(
    st.tuples(st.lists(awkward | st.text(characters, max_size=6), max_size=4).map("".join), NAMES),
    min_size=1,
    max_size=6,
)
KINDS = [None, "single_label_classification", "multi_label_classification"]


def reading(source, **options):
    """What a source is read as, or the kind of error it ends in."""
    try:
        data = load_data(source, **options)
    except DataError as error:
        return "refused", "\n" in str(error), "single_label_classification" in str(error)
    return data.texts, data.labels, data.label_space


@settings(max_examples=150, deadline=None)
@given(rows=TABLES, kind=st.sampled_from(KINDS))
def test_one_table_has_one_reading_in_every_format(tmp_path_factory, rows, kind):
    frame = pd.DataFrame(rows, columns=["text", "label"], dtype=object)
    wanted = reading(frame.to_dict("records"), problem_type=kind)
    folder = tmp_path_factory.mktemp("table")
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, frame.to_dict("records"))))
    frame.to_parquet(folder / "a.parquet")
    sources = [
        frame,
        frame.to_dict("list"),
        datasets.Dataset.from_pandas(frame),
        folder / "a.jsonl",
        folder / "a.parquet",
    ]
    assert all(reading(source, problem_type=kind) == wanted for source in sources)
    bare_return = any("\r" in cell for row in rows for cell in row)  # older Pythons leave such cells unquoted
    for name, separator, named in (("a.csv", ",", "csv"), ("a.tsv", "\t", "tsv-quoted")):
        frame.to_csv(folder / name, index=False, sep=separator)
        found = reading(folder / name, problem_type=kind, input_format=named)
        assert found == wanted or (bare_return and found[0] == "refused")


@settings(max_examples=100, deadline=None)
@given(rows=TABLES)
def test_a_tsv_that_needed_quotes_is_read_right_or_told(tmp_path_factory, rows):
    frame = pd.DataFrame(rows, columns=["text", "label"], dtype=object)
    path = tmp_path_factory.mktemp("table") / "a.tsv"
    frame.to_csv(path, index=False, sep="\t")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", DataWarning)
        found = reading(path, problem_type=KINDS[1])
    right = found == reading(frame.to_dict("records"), problem_type=KINDS[1])
    assert (
        right or found[0] == "refused" or any("tsv-quoted" in str(each.message) for each in told) or "\r" in str(rows)
    )


ANSWER = Prediction("pos", 0.75, 2, 4, False)


@settings(max_examples=150, deadline=None)
@given(rows=TABLES)
def test_what_predict_writes_as_csv_is_read_back_with_the_same_texts_and_labels(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("answers") / "out.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = FORMATS["csv"](stream)
        for text, label in rows:
            writer.write(("text", "label"), {"text": text, "label": label}, ANSWER)
    given = [{"text": text, "label": label} for text, label in rows]
    assert reading(path, label_column="label", problem_type=KINDS[1]) == reading(given, problem_type=KINDS[1])
    assert [text for _, text in read_texts(path)] == [text for text, _ in rows]


@pytest.mark.parametrize("label", [["joy", "love"], [], ["a;b", "c"], ["it's", 'so "said"'], [1, 2]])
def test_label_sets_are_written_so_that_they_are_read_back(tmp_path, label):
    rows = [{"text": "a", "label": label}, {"text": "b", "label": ["d"]}]
    with (tmp_path / "out.csv").open("w", newline="") as stream:
        writer = FORMATS["csv"](stream)
        for row in rows:
            writer.write(("text", "label"), row, ANSWER)
    assert reading(tmp_path / "out.csv", label_column="label") == reading(rows)


def test_answers_of_several_labels_are_read_back(tmp_path):
    answers = [("joy", "love"), ("joy",), ()]
    with (tmp_path / "out.csv").open("w", newline="") as stream:
        writer = FORMATS["csv"](stream)
        for row, labels in enumerate(answers):
            writer.write(("text",), {"text": str(row)}, Prediction(labels, (0.9,) * len(labels), 1, 2, False))
        with pytest.raises(DataError, match=r"answer 4: label 'a;b' holds ';'.*--output-format jsonl"):
            writer.write(("text",), {"text": "x"}, Prediction(("a;b",), (0.9,), 1, 2, False))
    data = load_data(tmp_path / "out.csv", label_column="label")
    assert data.label_space.names == ("joy", "love")
    assert data.labels == [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("cell", ["a\0b", "half \ud800"])
def test_what_csv_cannot_hold_is_refused_by_its_column(cell):
    writer = FORMATS["csv"](io.StringIO())
    with pytest.raises(DataError, match=r"answer 1, column 'note': .* --output-format jsonl"):
        writer.write(("text", "note"), {"text": "a", "note": cell}, ANSWER)
