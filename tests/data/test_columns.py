"""Which column is the text, the pair and the label."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbert.data import load_data
from elbert.data.columns import LABEL_COLUMNS, TEXT_COLUMNS
from elbert.errors import DataError, UsageError


def load(row, **options):
    return load_data([row], require_labels=False, **options)


@pytest.mark.parametrize("column", ["text", "sentence", "Text", " review ", "content", "utterance", "question"])
def test_a_text_is_found_by_name(column):
    assert load({"id": 7, column: "a"}).texts == ["a"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("sentence1", "sentence2"),
        ("text", "text_pair"),
        ("premise", "hypothesis"),
        ("question", "sentence"),
        ("question1", "question2"),
        ("#1 String", "#2 String"),
    ],
)
def test_a_pair_is_found_by_name_in_its_order(first, second):
    assert load({second: "b", "index": 1, first: "a"}).texts == [("a", "b")]


@pytest.mark.parametrize("column", ["label", "Label", "labels", "gold_label", "target", "sentiment"])
def test_a_label_is_found_by_name(column):
    assert load({"text": "a", column: "x"}).label_space.names == ("x",)


def test_label_comes_before_other_names():
    data = load_data([{"text": "a", "fine_label": "f", "sentiment": "s", "label": "x"}])
    assert data.label_space.names == ("x",)


def test_named_columns_overrule_the_search():
    row = {"text": "wrong", "body": "a", "other": "b", "label": "wrong", "kind": "x"}
    data = load(row, text_column="body", text_pair_column="other", label_column="kind")
    assert data.texts == [("a", "b")]
    assert data.label_space.names == ("x",)


def test_a_named_text_alone_stays_alone():
    assert load({"sentence1": "a", "sentence2": "b"}, text_column="sentence1").texts == ["a"]


def test_a_named_pair_finds_its_text():
    assert load({"text": "a", "other": "b"}, text_pair_column="other").texts == [("a", "b")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "txt"}, r"no column 'txt'; did you mean 'text'\? Allowed: text, label; .*--text-column"),
        ({"text_pair_column": "zzz"}, r"no column 'zzz'; allowed: text, label; .*--text-pair-column"),
        ({"label_column": "lable"}, r"no column 'lable'; did you mean 'label'\?.*--label-column"),
    ],
)
def test_a_named_column_that_is_missing_lists_the_ones_there_are(options, message):
    with pytest.raises(UsageError, match=message):
        load({"text": "a", "label": "x"}, **options)


@pytest.mark.parametrize(
    ("row", "names"), [({"foo": "a", "label": "x"}, TEXT_COLUMNS), ({"text": "a", "klass": "x"}, LABEL_COLUMNS)]
)
def test_a_column_that_is_not_found_is_told_every_name_that_is_read_and_so_are_the_docs(row, names):
    with pytest.raises(UsageError) as caught:
        load_data([row])
    told = str(caught.value).partition("or call it one of ")[2]
    assert told == ", ".join(map(repr, names))
    for name in names:
        found = {name if key in ("foo", "klass") else key: value for key, value in row.items()}
        data = load(found)
        assert (data.texts, data.label_space.names) == (["a"], ("x",))
    page = " ".join((Path(__file__).parents[2] / "docs" / "data.md").read_text().split())
    assert ", ".join(f"`{name}`" for name in names) in page


def test_no_text_column_lists_what_was_found():
    with pytest.raises(UsageError, match=r"no text column among 'foo', 'label'; name it with --text-column"):
        load({"foo": "a", "label": "x"})


def test_no_label_column_lists_what_was_found():
    with pytest.raises(UsageError, match=r"no label column among 'text', 'klass'; name it with --label-column"):
        load_data([{"text": "a", "klass": "x"}])


def test_without_labels_where_none_are_asked_for():
    data = load({"text": "a"})
    assert data.labels is None
    assert data.label_space is None


@pytest.mark.parametrize("half", ["sentence1", "sentence2", "premise", "hypothesis", "text_pair"])
def test_half_a_pair_is_refused(half):
    with pytest.raises(UsageError, match=rf"column '{half}' is half of a pair, but there is no"):
        load({half: "a", "label": "x"})


def test_half_a_pair_missing_in_one_row_is_refused():
    with pytest.raises(DataError, match="row 2, column 'sentence2': the text is missing"):
        load_data([{"sentence1": "a", "sentence2": "b"}, {"sentence1": "c"}], require_labels=False)


@pytest.mark.parametrize(
    "named",
    [
        {"label_column": "text"},
        {"text_column": "other", "label_column": "other"},
        {"text_column": "text", "text_pair_column": "text"},
        {"text_pair_column": "other", "label_column": "other"},
    ],
)
def test_one_column_is_not_named_for_two_things(named):
    with pytest.raises(UsageError, match="was named for two things; name one for each"):
        load_data([{"text": "a", "other": "b", "label": "c"}], **named)
