"""Splitting, selecting, and refusing what cannot be trained on."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbert.data import Labels, TextDataset, check_trainable, split
from elbert.data.dataset import in_space_of
from elbert.errors import DataError, UsageError


def single(labels):
    names = tuple(f"class {label}" for label in range(max(labels, default=0) + 1))
    texts = [f"text {row}" for row in range(len(labels))]
    return TextDataset(texts, list(labels), Labels("single_label_classification", names), "toy")


def test_class_proportions_are_kept():
    rest, part = split(single([0] * 60 + [1] * 30 + [2] * 10), 0.2, seed=0)
    assert Counter(part.labels) == {0: 12, 1: 6, 2: 2}
    assert Counter(rest.labels) == {0: 48, 1: 24, 2: 8}


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 5), min_size=2, max_size=60),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 100),
)
def test_any_split_is_a_partition_of_the_right_size_in_order(labels, fraction, seed):
    data = single(labels)
    rest, part = split(data, fraction, seed)
    assert len(part) == min(max(round(len(data) * fraction), 1), len(data) - 1)
    assert sorted([*rest.texts, *part.texts]) == sorted(data.texts)
    position = {text: row for row, text in enumerate(data.texts)}
    assert all(list(side.texts) == sorted(side.texts, key=position.get) for side in (rest, part))
    assert all(data.labels[position[text]] == label for text, label in zip(part.texts, part.labels, strict=True))


@pytest.mark.parametrize(("fraction", "larger"), [(0.2, 0), (0.8, 1)])
def test_a_class_of_one_item_goes_to_the_larger_part(fraction, larger):
    data = single([0] * 20 + [1] * 20 + [2])
    for seed in range(20):
        assert 2 in split(data, fraction, seed)[larger].labels


def test_the_seed_decides():
    data = single([0, 1] * 50)
    assert split(data, 0.3, 1)[1].texts == split(data, 0.3, 1)[1].texts
    assert split(data, 0.3, 1)[1].texts != split(data, 0.3, 2)[1].texts


@pytest.mark.parametrize(
    "data",
    [
        TextDataset(["a", "b", "c", "d"]),
        TextDataset(["a", "b", "c", "d"], [0.1, 0.2, 0.3, 0.4], Labels("regression", ())),
        TextDataset(list("abcd"), [[1.0], [0.0], [1.0], [0.0]], Labels("multi_label_classification", ("x",))),
    ],
)
def test_data_without_classes_is_split_at_random(data):
    rest, part = split(data, 0.25, seed=0)
    assert (len(rest), len(part)) == (3, 1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(UsageError, match="allowed: more than 0 and less than 1"):
        split(single([0, 1]), fraction, 0)


def test_one_row_cannot_be_split():
    with pytest.raises(DataError, match="toy: 1 rows cannot be split"):
        split(single([0]), 0.5, 0)


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=2, max_size=60),
    fraction=st.floats(0.05, 0.95),
    kind=st.sampled_from(["single", "unlabelled"]),
)
def test_no_text_stands_on_both_sides(rows, fraction, kind):
    texts = [f"text  {text}" if place % 2 else f"Text {text} " for place, (text, _) in enumerate(rows)]
    labels = [label for _, label in rows]
    data = single(labels) if kind == "single" else TextDataset(["x"] * len(rows))
    data = TextDataset(texts, data.labels, data.label_space)
    if len({text for text, _ in rows}) < 2:
        with pytest.raises(DataError, match="have one text and cannot be split"):
            split(data, fraction, 0)
        return
    rest, part = split(data, fraction, 0)
    assert rest.texts
    assert part.texts
    assert sorted([*rest.texts, *part.texts]) == sorted(texts)
    assert not {text.split()[1] for text in rest.texts} & {text.split()[1] for text in part.texts}


def test_pairs_stay_together_as_pairs():
    data = TextDataset([("a", "b"), ("a", "c"), ("A ", "b"), ("a b", "")] * 5)
    rest, part = split(data, 0.5, 0)
    assert {len(rest), len(part)} == {10}
    assert not {(a.strip().lower(), b) for a, b in rest.texts} & {(a.strip().lower(), b) for a, b in part.texts}


def test_a_few_repeats_cost_the_part_little():
    data = single([0] * 50 + [1] * 50)
    data = TextDataset([f"text {row % 90}" for row in range(100)], data.labels, data.label_space)
    assert 17 <= len(split(data, 0.2, 0)[1]) <= 21


def test_select_keeps_order_and_label_space():
    data = single([0, 1, 2])
    chosen = data.select([2, 0])
    assert chosen.texts == ["text 2", "text 0"]
    assert chosen.labels == [2, 0]
    assert chosen.label_space is data.label_space


def test_texts_and_labels_must_belong_together():
    with pytest.raises(UsageError, match="2 texts but 1 labels"):
        TextDataset(["a", "b"], [0], Labels("single_label_classification", ("x",)))
    with pytest.raises(UsageError, match="labels and label_space go together"):
        TextDataset(["a"], [0])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (single([]), "toy: no rows"),
        (TextDataset(["a"]), "no labels"),
        (single([1, 1, 1]), r"every one of its 3 rows has the label 'class 1'; training needs at least two"),
        (TextDataset(["a", "b"], [2.0, 2.0], Labels("regression", ())), "has the label 2.0"),
        (TextDataset(["a"], [[0.0]], Labels("multi_label_classification", ("x",))), "every label set is empty"),
        (
            TextDataset(["a", "b"], [[1.0, 1.0]] * 2, Labels("multi_label_classification", ("x", "y"))),
            r"every one of its 2 rows has the labels 'x \+ y'",
        ),
    ],
)
def test_untrainable_data_is_refused(data, message):
    with pytest.raises(DataError, match=message):
        check_trainable(data)


@pytest.mark.parametrize(
    "data",
    [
        single([0, 1]),
        TextDataset(["a", "b"], [2.0, 2.5], Labels("regression", ())),
        TextDataset(["a", "b"], [[1.0], [0.0]], Labels("multi_label_classification", ("x",))),
    ],
)
def test_trainable_data_passes(data):
    check_trainable(data)


ONE, MANY = "single_label_classification", "multi_label_classification"


@pytest.mark.parametrize(
    ("labels", "own", "space", "wanted"),
    [
        ([0, 1, 0], Labels(ONE, ("neg", "pos")), Labels(ONE, ("pos", "neg")), [1, 0, 1]),
        ([0, 1, 1], Labels(ONE, ("b", "c")), Labels(ONE, ("a", "b", "c")), [1, 2, 2]),
        ([0, 0, 0], Labels(ONE, ("b", "never seen")), Labels(ONE, ("a", "b")), [1, 1, 1]),
        ([0, 1, 0], Labels(ONE, ("0", "1")), Labels(ONE, ("neg", "pos")), [0, 1, 0]),
        ([[1.0, 0.0]] * 3, Labels(MANY, ("b", "a")), Labels(MANY, ("a", "b", "c")), [[0.0, 1.0, 0.0]] * 3),
        ([0.5, 1.5, 2.0], Labels("regression", ()), Labels("regression", ()), [0.5, 1.5, 2.0]),
    ],
)
def test_classes_are_told_by_their_names_and_not_by_their_numbers(labels, own, space, wanted):
    data = in_space_of(TextDataset(["a", "b", "c"], labels, own, "toy"), space)
    assert (data.labels, data.label_space, data.texts, data.name) == (wanted, space, ["a", "b", "c"], "toy")


def test_classes_of_another_model_are_refused():
    data = TextDataset(["a", "b"], [0, 1], Labels(ONE, ("neg", "odd")), "toy")
    with pytest.raises(DataError, match="toy: label 'odd' was never seen in training; known: 'neg', 'pos'"):
        in_space_of(data, Labels(ONE, ("neg", "pos")))
    with pytest.raises(UsageError, match=r"toy is read as single-label .* load_data\(…, labels=classifier.labels\)"):
        in_space_of(data, Labels(MANY, ("neg", "odd")))
    assert in_space_of(TextDataset(["a"]), Labels(ONE, ("x", "y"))).labels is None
