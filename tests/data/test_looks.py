"""How rows look is not what they are: datasets in any format, dicts of columns, bytes; which column is what."""

from __future__ import annotations

from decimal import Decimal

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from elbert.data import Labels, load_data, load_texts, read_texts
from elbert.errors import DataError, DataWarning, UsageError

QUIET = pytest.mark.filterwarnings("error::elbert.errors.DataWarning")


def class_labelled():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    return datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features)


def label_sets():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["b", "a"]))}
    )
    return datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [[0, 1], [], [1]]}, features)


LOOKS = [
    *(lambda data, kind=kind: data.with_format(kind) for kind in ("numpy", "torch", "pandas", "arrow")),
    lambda data: data.with_format("torch", columns=["text"]),
    lambda data: data.with_transform(lambda rows: {"text": [text.upper() for text in rows["text"]]}),
    lambda data: data.to_iterable_dataset(),
    lambda data: datasets.DatasetDict({"train": data.with_format("numpy"), "test": data.select([0])}),
    lambda data: datasets.IterableDatasetDict({"train": data.to_iterable_dataset()}),
]


@QUIET
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("make", [class_labelled, label_sets])
def test_a_format_changes_nothing(look, make):
    before, after = load_data(make()), load_data(look(make()))
    assert after.texts == before.texts == ["a", "b", "c"]
    assert (after.labels, after.label_space) == (before.labels, before.label_space)
    assert [text for _, text in read_texts(look(make()))] == before.texts


def test_a_stream_that_declares_nothing_is_read():
    stream = datasets.IterableDataset.from_generator(
        lambda: iter([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    )
    assert load_data(stream).label_space.names == ("x", "y")


@QUIET
@pytest.mark.parametrize("column", [list, tuple, np.array, pd.Series, pd.Categorical])
def test_a_dict_of_columns_is_a_table(column):
    data = load_data({"text": column(["a", "b"]), "label": column(["y", "x"])})
    assert (data.texts, data.labels, data.name) == (["a", "b"], [1, 0], "dict")
    assert load_data({"text": ["a", "b"], "label": torch.tensor([1, 0])}).labels == [1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": "a"}, "'text' is of type str, not a column"),
        ({"text": ["a"], "label": [1, 2]}, r"different lengths \('text' has 1, 'label' has 2\)"),
        ({"train": pd.DataFrame({"text": ["a"]})}, "'train' is of type DataFrame, not a column"),
        ({"text": iter(["a"])}, "not a column"),
    ],
)
def test_a_dict_that_is_no_table_is_refused(columns, message):
    with pytest.raises(UsageError, match=message):
        load_data(columns)


@QUIET
def test_numpys_and_pandas_own_scalars_are_plain_values():
    rows = [{"text": np.str_("a"), "label": np.int64(1)}, {"text": "b", "label": np.int8(0)}]
    assert load_data(rows).label_space.names == ("0", "1")
    assert load_data([{"text": "a", "label": np.bool_(True)}, {"text": "b", "label": False}]).labels == [1, 0]
    assert load_data([{"text": "a", "label": torch.tensor(1)}, {"text": "b", "label": torch.tensor(0)}]).labels == [
        1,
        0,
    ]


@pytest.mark.parametrize("missing", [pd.NA, pd.NaT, np.float64("nan"), None])
def test_nothing_is_nothing_in_every_guise(missing):
    with pytest.raises(DataError, match="row 2, column 'text': the text is missing"):
        load_texts([{"text": "a"}, {"text": missing}])
    with pytest.raises(DataError, match="row 2: the label is missing"):
        load_data([{"text": "a", "label": "x"}, {"text": "b", "label": missing}])


@pytest.mark.filterwarnings("error::elbert.errors.DataWarning", "ignore:.*the text is empty or blank in row 2")
def test_parquet_of_bytes_and_decimals_is_text_and_classes(tmp_path):
    texts = pa.array(["schön".encode(), b""], pa.binary())
    labels = pa.array([Decimal(1), Decimal(0)], pa.decimal128(10, 0))
    pq.write_table(pa.table({"text": texts, "label": labels}), tmp_path / "a.parquet")
    data = load_data(tmp_path / "a.parquet")
    assert data.texts == ["schön", ""]
    assert (data.label_space, data.labels) == (Labels("single_label_classification", ("0", "1")), [1, 0])
    assert load_data(pd.read_parquet(tmp_path / "a.parquet")).texts == data.texts


@pytest.mark.parametrize("kind", [pa.large_binary(), pa.binary(2), pa.binary_view()])
def test_other_kinds_of_bytes_are_text_and_names_too(tmp_path, kind):
    table = pa.table({"text": pa.array([b"ab", b"cd"], kind), "label": pa.array([b"no", b"ja"], kind)})
    try:
        pq.write_table(table, tmp_path / "a.parquet")
    except pa.ArrowNotImplementedError:
        pytest.skip(f"this pyarrow writes no {kind}")
    assert load_data(tmp_path / "a.parquet").label_space.names == ("ja", "no")


def test_bytes_that_are_no_text_name_row_and_column():
    with pytest.raises(DataError, match=r"row 2, column 'text': the text is not UTF-8 \(byte offset 1 of it\)"):
        load_texts([b"good", b"b\xffd"])


@pytest.mark.parametrize(
    "columns", [("score", "sentiment"), ("target", "class"), ("label", "Label"), ("topic", "emotion")]
)
def test_several_columns_that_could_be_the_label_are_listed_and_none_is_taken(columns):
    row = {"text": "a", columns[0]: "x", columns[1]: "y"}
    with pytest.raises(
        UsageError, match=r"several columns could be the label: .*; say which with --label-column"
    ) as caught:
        load_data([row])
    assert all(repr(column) in str(caught.value) for column in columns)
    assert load_data([row, {**row, columns[1]: "z"}], label_column=columns[1]).label_space.names == ("y", "z")
    assert load_texts([row]).texts == ["a"]


def test_a_column_label_is_taken_before_others_and_told():
    with pytest.warns(
        DataWarning, match="column 'label' is taken for the label, not 'score'; --label-column overrules"
    ):
        assert load_data([{"text": "a", "score": 0.93, "label": "x"}]).label_space.names == ("x",)


def test_reviews_with_stars_say_what_was_read_as_what():
    rows = [{"Id": row, "Score": 1 + row % 5, "Summary": "s", "Text": f"t{row}"} for row in range(10)]
    with pytest.warns(
        DataWarning, match=r"text from 'Text', label from 'Score', read as numbers.*--problem-type overrule"
    ):
        assert load_data(rows).label_space.problem_type == "regression"


def test_several_columns_that_could_be_the_text_are_told():
    row = {"comment": "no", "text": "a", "label": "x"}
    with pytest.warns(DataWarning, match="column 'text' is taken for the text, not 'comment'; --text-column overrules"):
        assert load_data([row]).texts == ["a"]


def test_texts_with_two_labels_are_told_in_one_line():
    rows = [("a", "x"), ("b", "x"), ("a", "y"), ("b", "x"), ("c", "x"), ("c", "y"), ("c", "y")]
    with pytest.warns(
        DataWarning, match="texts with one label here and another there: 2, the first in rows 1 and 3"
    ) as told:
        load_data([{"text": text, "label": label} for text, label in rows])
    assert len(told) == 1


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("a.csv", "a warm and witty story,pos\na dull film,neg\n", "its first line looks like a row: give it a header"),
        ("a.tsv", "1\tgood\n0\tbad\n", "its first line looks like a row: give it a header"),
        ("a.tsv", "text,label\na,x\n", "it looks comma-separated: read it with --input-format csv"),
    ],
)
def test_a_file_without_its_header_or_with_another_separator_says_so(write, name, content, remedy):
    with pytest.raises(UsageError, match=remedy):
        load_data(write(name, content))
