"""Label spaces: how they are guessed, and how values are encoded with a trained model's."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from elbert.data import Labels, load_data
from elbert.errors import DataError, DataWarning, UsageError


def load(values, column="label", **options):
    rows = [{"text": f"text {row}", column: value} for row, value in enumerate(values)]
    return load_data(rows, **options)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["pos", "neg", "pos"], ("neg", "pos")),
        ([10, 2, 1], ("1", "2", "10")),
        (["10", "2", "1"], ("1", "2", "10")),
        ([2.0, 1.0], ("1.0", "2.0")),
        (["2.0", "1"], ("1", "2.0")),
        (["01", "02", "10"], ("01", "02", "10")),
        ([-1, 1, 0], ("-1", "0", "1")),
        ([True, False], ("False", "True")),
        ([" pos", "pos ", "neg"], ("neg", "pos")),
        ([np.int64(1), np.int64(0)], ("0", "1")),
        (["9" * 400, "a"], ("9" * 400, "a")),
    ],
)
def test_class_names_are_sorted_as_people_would(values, names):
    data = load(values)
    assert data.label_space == Labels("single_label_classification", names)
    assert [data.label_space.decode(label) for label in data.labels] == [str(value).strip() for value in values]


def test_floats_that_are_not_whole_mean_regression():
    data = load([1.0, 2.5, "3"])
    assert data.label_space == Labels("regression", ())
    assert data.labels == [1.0, 2.5, 3.0]


def test_a_score_column_means_regression_even_when_whole():
    assert load([1, 2], column="score").label_space.problem_type == "regression"


def test_a_score_column_of_words_is_single_label():
    assert load(["good", "bad"], column="score").label_space.names == ("bad", "good")


def test_a_label_column_with_nothing_in_it_is_no_error_where_labels_are_not_needed():
    assert load([None, ""], require_labels=False).labels is None
    with pytest.raises(DataError, match="row 2: the label is missing"):
        load(["a", None], require_labels=False)


def test_a_labels_column_of_strings_is_split_at_semicolons_and_may_be_empty():
    data = load(["joy;love", "", " love "], column="labels")
    assert data.label_space == Labels("multi_label_classification", ("joy", "love"))
    assert data.labels == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]


def test_a_labels_column_of_numbers_is_single_label():
    assert load([0, 1], column="labels").label_space.problem_type == "single_label_classification"


def test_lists_mean_multi_label_whatever_the_column():
    data = load([["b", "a"], [], ["b"]])
    assert data.labels == [[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("values", "problem_type", "labels"),
    [
        ([1, 2], "regression", [1.0, 2.0]),
        (["a;b", "a"], "multi_label_classification", [[1.0, 1.0], [1.0, 0.0]]),
        ([0.5, 1.5], "single_label_classification", [0, 1]),
    ],
)
def test_problem_type_overrules_the_guess(values, problem_type, labels):
    data = load(values, problem_type=problem_type)
    assert data.label_space.problem_type == problem_type
    assert data.labels == labels


def test_an_unknown_problem_type_names_the_closest():
    with pytest.raises(UsageError, match="did you mean 'regression'"):
        load([1, 2], problem_type="regresion")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, "good"], r"row 2: labels are part words \('good'\), part numbers \('0'\)"),
        ([0.5, float("inf")], "row 2: label inf is not a finite number"),
        (["a", None], r"row 2: the label is missing \(None\)"),
        (["a", float("nan")], r"row 2: the label is missing \(nan\)"),
        (["a", "  "], "row 2: the label is missing"),
        ([0, "NaN"], "row 2: the label is missing"),
        ([None, ["a"]], "row 1: the label is missing"),
        ([["a"], None], "row 2: the label is missing"),
        ([["a"], [None]], "row 2: the label is missing"),
        ([["a"], "a"], r"row 2: label 'a' beside \['a'\] in row 1"),
        ([["a"], [["a"]]], r"row 2: label \['a'\] is of type list"),
        ([[0, 1], [1, 1]], r"row 2: label set \[1, 1\] names a label twice"),
        ([b"\xff"], "row 1: the label is not UTF-8"),
        ([object()], "is of type object"),
    ],
)
def test_unusable_labels_are_refused_with_their_row(values, message):
    with pytest.raises(DataError, match=message):
        load(values)


@pytest.mark.parametrize("value", ["high", float("inf"), "", None])
def test_a_regression_target_must_be_a_finite_number(value):
    with pytest.raises(DataError, match="row 2: "):
        load([0.5, value], problem_type="regression")


SENTIMENT = Labels("single_label_classification", ("negative", "positive"))


def test_a_models_names_match_exactly():
    assert load(["positive", "negative"], labels=SENTIMENT).labels == [1, 0]


@pytest.mark.parametrize("values", [[1, 0], ["1", "0"], [1.0, 0.0]])
def test_whole_numbers_are_ids_where_the_names_are_words_and_that_is_said(values):
    with pytest.warns(DataWarning, match="labels 0, 1 are read as class numbers: 'negative', 'positive'"):
        assert load(values, labels=SENTIMENT).labels == [1, 0]


@pytest.mark.filterwarnings("error::elbert.errors.DataWarning")
def test_ids_are_not_mentioned_where_the_source_itself_gives_them_the_models_names():
    names = datasets.ClassLabel(names=list(SENTIMENT.names))
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    source = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    assert load_data(source, labels=SENTIMENT).labels == [1, 0]


def test_whole_numbers_are_names_where_the_names_are_numbers():
    stars = Labels("single_label_classification", ("1", "2", "3"))
    assert load([3, "1"], labels=stars).labels == [2, 0]
    with pytest.raises(DataError, match="row 1: label '0' was never seen in training"):
        load([0], labels=stars)


@pytest.mark.parametrize("value", [2, -1, "7"])
def test_an_id_out_of_range_is_refused(value):
    with pytest.raises(DataError, match=rf"row 2: label id {value} is out of range; allowed: 0 to 1"):
        load([0, value], labels=SENTIMENT)


def test_a_name_never_seen_names_the_closest_known():
    with pytest.raises(
        DataError, match=r"row 2: label 'positiv' was never seen in training; did you mean 'positive'\?"
    ):
        load(["negative", "positiv"], labels=SENTIMENT)


def test_a_hundred_known_names_do_not_flood_the_line():
    many = Labels("single_label_classification", tuple(f"class {row}" for row in range(100)))
    with pytest.raises(DataError) as caught:
        load(["zzz"], labels=many)
    assert "(100 in all)" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_multi_label_model_takes_names_or_ids():
    space = Labels("multi_label_classification", ("joy", "love", "anger"))
    assert load(["love;joy", ""], labels=space).labels == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert load([[2], [0, 1]], labels=space).labels == [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]
    with pytest.raises(DataError, match="row 2: label 'hate' was never seen"):
        load(["joy", "love;hate"], labels=space)


def test_a_regression_model_refuses_words():
    with pytest.raises(DataError, match="row 1: score 'good' is not a finite number"):
        load(["good"], labels=Labels("regression", ()))


def test_another_problem_type_than_the_models_is_refused():
    with pytest.raises(UsageError, match="the model's labels are for 'single_label_classification'"):
        load([0.5], labels=SENTIMENT, problem_type="regression")


def test_id2label_goes_there_and_back():
    assert SENTIMENT.id2label == {0: "negative", 1: "positive"}
    assert SENTIMENT.label2id == {"negative": 0, "positive": 1}
    assert Labels.from_id2label({"1": "positive", "0": "negative"}, SENTIMENT.problem_type) == SENTIMENT
    assert Labels("regression", ()).id2label == {0: "score"}
    assert Labels.from_id2label({0: "LABEL_0"}, "regression") == Labels("regression", ())


def test_the_number_of_labels_is_a_models_width():
    assert SENTIMENT.num_labels == 2
    assert Labels("regression", ()).num_labels == 1


def test_broken_label_spaces_are_refused():
    with pytest.raises(UsageError, match="not all different"):
        Labels("single_label_classification", ("a", "a"))
    with pytest.raises(UsageError, match=r"ids \[0, 2\]; allowed: 0 to 1"):
        Labels.from_id2label({0: "a", 2: "b"}, "single_label_classification")
    with pytest.raises(UsageError, match="no class 5; allowed: 0 to 1"):
        SENTIMENT.decode(5)
