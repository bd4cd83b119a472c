from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbert.errors import ModelError, UsageError
from elbert.words import WordModel
from elbert.words.fit import fit_at_exits, fit_words
from elbert.words.grams import BUCKETS, gram_buckets, grams_of

Texts = list[list[int]]

LISTS = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12), min_size=1, max_size=6)


def packed(texts: Texts) -> tuple[np.ndarray, np.ndarray]:
    return np.array([number for ids in texts for number in ids]), np.array([len(ids) for ids in texts])


def bucket_of(gram: list[int]) -> int:
    """The bucket of one gram, by itself: the last one of a text that is just this gram."""
    return int(gram_buckets(*packed([gram]))[2][-1])


def slow_logits(model: WordModel, ids: list[int]) -> list[float]:
    """One text, as the docstring of the model says it."""
    counts: dict[int, int] = {}
    for size in (1, 2, 3):
        for start in range(len(ids) - size + 1):
            bucket = bucket_of(ids[start : start + size])
            counts[bucket] = counts.get(bucket, 0) + 1
    known = {int(bucket): place for place, bucket in enumerate(model.buckets)}
    values = {known[b]: (1 + math.log(n)) * float(model.idf[known[b]]) for b, n in counts.items() if b in known}
    length = math.sqrt(sum(value**2 for value in values.values()))
    logits = [float(each) for each in model.bias]
    for place, value in values.items():
        for label in range(len(logits)):
            logits[label] += value / length * float(model.weight[place, label])
    return logits


@pytest.mark.filterwarnings("error")
def test_a_class_a_text_is_fitted_without_a_word_about_regression():
    texts = [[number, number + 1] for number in range(60)]
    assert fit_words(texts, np.arange(60), 60).num_labels == 60


@pytest.fixture(scope="module")
def learnt() -> WordModel:
    """Four classes of noise over forty words; each class has a word and a run of three words of its own."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 4, 400)
    texts = [[1, *random.integers(8, 40, random.integers(3, 9)), 4 + label, 2] for label in targets.tolist()]
    return fit_words([[int(number) for number in text] for text in texts], targets, 4)


@settings(deadline=None)  # a busy machine is no fault
@given(LISTS)
def test_the_packed_bag_is_the_slow_one(learnt: WordModel, texts: Texts) -> None:
    fast = learnt.logits(*packed(texts))
    np.testing.assert_allclose(fast, [slow_logits(learnt, ids) for ids in texts], atol=1e-4)


@settings(deadline=None)  # a busy machine is no fault
@given(LISTS)
def test_no_text_changes_anothers_logits(learnt: WordModel, texts: Texts) -> None:
    together = learnt.logits(*packed(texts))
    alone = np.concatenate([learnt.logits(*packed([ids])) for ids in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_grams_depend_on_order_and_never_cross_texts() -> None:
    assert bucket_of([5, 6]) != bucket_of([6, 5])
    assert bucket_of([5, 6, 7]) != bucket_of([5, 7, 6])
    two = grams_of(*packed([[5, 6], [7]]))
    assert sorted(two.bucket[two.text == 0]) == sorted([bucket_of([5]), bucket_of([6]), bucket_of([5, 6])])
    assert two.bucket[two.text == 1].tolist() == [bucket_of([7])]
    assert sorted(grams_of(*packed([[5, 5, 5]])).count.tolist()) == [1, 2, 3]
    assert 0 <= two.bucket.min() <= two.bucket.max() < BUCKETS


def test_words_are_learnt_and_sure_texts_are_right(learnt: WordModel) -> None:
    random = np.random.default_rng(1)
    targets = random.integers(0, 4, 200)
    texts = [[1, *map(int, random.integers(8, 40, 5)), 4 + int(label), 2] for label in targets]
    logits = learnt.logits(*packed(texts))
    assert (logits.argmax(1) == targets).mean() > 0.95


def test_probabilities_of_noise_are_calibrated_by_the_temperature() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 1200)
    told = np.where(random.random(1200) < 0.8, truth, 1 - truth)  # the one word that tells is wrong once in five
    texts = [[1, *map(int, random.integers(8, 400, 6)), 4 + int(label), 2] for label in told]
    model = fit_words(texts[:800], truth[:800], 2)
    logits = model.logits(*packed(texts[800:]))
    sure = np.exp(logits - logits.max(1, keepdims=True))
    sure = (sure / sure.sum(1, keepdims=True)).max(1)
    right = logits.argmax(1) == truth[800:]
    assert abs(sure.mean() - right.mean()) < 0.06


def test_labels_of_a_multi_label_problem_are_learnt_each_by_itself() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, (300, 3)).astype(float)
    targets[:, 2] = 0.0  # a label nothing has
    texts = [[1, *map(int, random.integers(20, 60, 4)), *(4 + n for n in range(3) if row[n]), 2] for row in targets]
    logits = fit_words(texts, targets, 3).logits(*packed(texts))
    assert ((logits > 0) == (targets > 0.5)).mean() > 0.95
    assert (logits[:, 2] < -3).all()


def test_classes_without_texts_are_never_said_and_one_class_is_always() -> None:
    texts = [[1, 10 + n % 5, 2] for n in range(40)]
    some = fit_words(texts, np.array([n % 5 % 2 for n in range(40)]), 4).logits(*packed(texts))
    assert set(some.argmax(1)) == {0, 1}
    one = fit_words(texts, np.full(40, 2), 4).logits(*packed(texts))
    assert set(one.argmax(1)) == {2}


def test_as_much_is_added_to_the_exits_as_makes_texts_held_out_likeliest() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 2000)
    truth = np.eye(3)[targets]
    exits = truth[:, None] + random.normal(0, 1, (2000, 4, 3))
    words = (truth + random.normal(0, 1, (2000, 3))).astype(np.float32)
    share = fit_at_exits(exits.astype(np.float32), words, targets)
    assert share == pytest.approx(1.0, abs=0.15), "both know as much"
    assert fit_at_exits(exits.astype(np.float32), random.normal(0, 1, (2000, 3)).astype(np.float32), targets) < 0.1
    boastful = fit_at_exits(4 * exits.astype(np.float32), words, targets)
    assert boastful == pytest.approx(4.0, abs=0.6), "that exits are too sure of themselves makes words count no less"
    each = fit_at_exits(2 * exits.astype(np.float32) - 1, 2 * words - 1, truth)
    assert 0.2 < each < 1.5, "every label by itself"


@settings(deadline=None)  # a busy machine is no fault
@given(ids=st.lists(st.integers(0, 40), min_size=1, max_size=12))
def test_what_each_gram_adds_makes_up_the_logits(learnt: WordModel, ids: list[int]) -> None:
    first, size, added = learnt.weighed(ids)
    np.testing.assert_allclose(learnt.bias + added.sum(0), learnt.logits(*packed([ids]))[0], atol=1e-5)
    grams = [tuple(ids[start : start + count]) for start, count in zip(first.tolist(), size.tolist(), strict=True)]
    assert len(set(grams)) == len(grams)
    assert all(ids.index(gram[0]) <= start for gram, start in zip(grams, first.tolist(), strict=True))


def test_the_word_of_a_class_adds_most_to_it(learnt: WordModel) -> None:
    for label in range(4):
        first, size, added = learnt.weighed([1, 9, 4 + label, 17, 2])
        most = int(added[:, label].argmax())
        assert 2 in range(first[most], first[most] + size[most])


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_what_is_added_to_the_exits_is_part_of_the_file(learnt: WordModel, share: float) -> None:
    model = replace(learnt, at_exits=share)
    again = WordModel.from_tensors(model.tensors())
    assert again.at_exits == pytest.approx(share)
    assert ("at_exits" in model.tensors()) is (share > 0), "a model without it is what it always was"
    assert (again.reach, replace(again, reach=0).tensors().keys() - model.tensors().keys()) == (1024, set())
    added = again.added([[1, 5, 9, 2], [1, 2]])
    if not share:
        assert added is None
    else:
        np.testing.assert_allclose(added, np.float32(share) * model.logits(*packed([[1, 5, 9, 2], [1, 2]])), atol=1e-5)


def test_a_model_saved_is_the_model_read(learnt: WordModel) -> None:
    again = WordModel.from_tensors(learnt.tensors())
    texts = [[1, 9, 5, 2], [1, 2]]
    np.testing.assert_array_equal(again.logits(*packed(texts)), learnt.logits(*packed(texts)))


@pytest.mark.parametrize("broken", ["missing", "shape", "nan", "order", "beyond", "added"])
def test_a_damaged_file_is_one_line(learnt: WordModel, broken: str) -> None:
    tensors = {name: values.copy() for name, values in learnt.tensors().items()}
    if broken == "missing":
        del tensors["idf"]
    elif broken == "shape":
        tensors["idf"] = tensors["idf"][:-1]
    elif broken == "nan":
        tensors["weight"][0, 0] = math.nan
    elif broken == "added":
        tensors["at_exits"] = np.array([math.nan], np.float32)
    elif broken == "order":
        tensors["buckets"] = tensors["buckets"][::-1]
    else:
        tensors["buckets"][-1] = BUCKETS
    with pytest.raises(ModelError, match="fit it again"):
        WordModel.from_tensors(tensors)


def test_the_file_stays_small_however_many_grams_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elbert.words.fit.MOST_BYTES", 2_000)
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 300)
    texts = [[1, *map(int, random.integers(8, 90, 6)), 4 + int(label), 2] for label in targets]
    model = fit_words(texts, targets, 3)
    assert sum(values.nbytes for values in model.tensors().values()) <= 2_100
    assert (model.logits(*packed(texts)).argmax(1) == targets).mean() > 0.9, "the grams that tell are kept"


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(UsageError, match="was given 3 texts; it needs 10 or more"):
        fit_words([[1], [2], [3]], np.array([0, 1, 0]), 2)
