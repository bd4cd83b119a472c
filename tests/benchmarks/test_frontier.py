"""The frontier: linear rivals are kept as they were fitted, choices see rows held out only, the verdict is first."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import frontier
import frontier_linear
from elbert.evaluation.bench.job import Job, Spec
from frontier_ground import CORPORA, Ground
from frontier_linear import CHARACTERS, WORDS, Linear, fit, tfidf, vectorizers_of
from frontier_page import depth, gains_of_words, verdict, write_page
from frontier_records import Line, read_lines, write_lines
from frontier_rows import cascade_threshold

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def texts(classes: int) -> tuple[list[str], np.ndarray]:
    """Sixty texts, each with a word that tells its class."""
    labels = np.arange(60) % classes
    return [f"the word{label} and number{row % 7}" for row, label in enumerate(labels.tolist())], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_model_is_read_as_it_was_written_and_answers_in_a_race(classes: int, tmp_path: Path) -> None:
    given, labels = texts(classes)
    vectorizers = vectorizers_of((WORDS, CHARACTERS), given)
    held_out = np.arange(60) >= 45
    fitted = fit(
        tfidf(vectorizers, given), labels, held_out, classes, lambda logits: (logits.argmax(1) == labels[45:]).mean()
    )
    linear = Linear(*fitted.whole, vectorizers)
    linear.write(tmp_path / "words")
    again = Linear.read(tmp_path / "words")
    np.testing.assert_allclose(again.logits(given), linear.logits(given), atol=1e-4)
    run = frontier_linear.load(Job(tmp_path / "words", tmp_path, given, SINGLE, 64, 1), Spec("tfidf", "", "float32"))
    assert run(given, 8).labels == labels.tolist()


def test_every_label_of_a_multi_label_problem_is_learnt_and_one_nobody_has_never_said() -> None:
    given, first = texts(2)
    targets = np.stack([first, 1 - first, 0 * first], 1).astype(float)
    vectorizers = vectorizers_of((WORDS,), given)
    fitted = fit(tfidf(vectorizers, given), targets, np.arange(60) >= 45, 3, lambda _: 0.0)
    logits = Linear(*fitted.whole, vectorizers).logits(given)
    assert ((logits > 0) == (targets > 0)).all()


def test_the_penalty_is_the_one_that_scores_best_on_the_rows_held_out_and_learnt_from_the_others() -> None:
    given, labels = texts(3)
    values, seen = tfidf(vectorizers_of((WORDS,), given), given), []

    def score(logits: Any) -> float:
        seen.append(logits.shape)
        return float(len(seen) == 2)  # the second

    fitted = fit(values, labels, np.arange(60) % 4 == 0, 3, score)
    assert fitted.penalty == frontier_linear.PENALTIES[1]
    assert seen == [(15, 3)] * 3
    assert np.abs(fitted.learnt[0] - fitted.whole[0]).max() > 0, "the last fit has all rows"


def test_a_cascade_takes_the_lowest_threshold_that_loses_little() -> None:
    sure, right = np.array([0.99, 0.9, 0.8, 0.5]), np.array([1, 1, 1, 1])
    first = np.array([1, 1, 0, 0])  # wrong below 0.85

    def score(answers: Any) -> float:
        return float((answers == right).mean())

    assert cascade_threshold(sure, first, right, score) == 0.8
    assert cascade_threshold(sure, 0 * first, right, score) == 0.99
    assert cascade_threshold(np.ones(4), 0 * first, right, score) == 1.0


def line(name: str, row: str, score: float, **more: Any) -> Line:
    given: dict[str, Any] = {"system": "elbert", "backend": "torch", "dtype": "float32", "folder": row, "size_mb": 1.0}
    return Line(name, row, **{**given, "score": score, "f1_macro": score, "rarest_recall": None, **more})


LINES = [
    line("TF-IDF", "tfidf", 0.90),
    line("MiniLM", "minilm", 0.95),
    line("ours, full depth", "ours", 0.952, level="full", layers=6),
    line(
        "ours, drop-1", "ours", 0.949, level="drop-1", layers=6, words=True, policy={"words": 0.9}, mean_exit_layer=2.0
    ),
    line("ours, drop-2", "ours", 0.94, level="drop-2", layers=6),
]


def rates(*numbers: float) -> dict[str, Any]:
    return {each.key: {"texts_per_second": rate} for each, rate in zip(LINES, numbers, strict=True)}


@pytest.mark.parametrize(
    ("numbers", "front", "near", "name"),
    [
        ((9000, 100, 90, 400, 800), True, True, "ours, drop-2"),  # far enough above TF-IDF, and fastest
        ((9000, 500, 90, 400, 800), True, True, "ours, drop-2"),
        ((9000, 900, 90, 400, 800), False, True, "ours, drop-1"),  # MiniLM is better and faster than both
    ],
)
def test_the_verdict_wants_ours_on_the_front_and_near_the_best(
    numbers: tuple[float, ...], front: bool, near: bool, name: str
) -> None:
    found = verdict(LINES, rates(*numbers))
    assert found is not None
    assert (found.front, found.near, found.line.name) == (front, near, name)


def test_a_better_row_whose_rounds_overlap_ours_in_speed_is_a_tie() -> None:
    times = rates(9000, 780, 90, 400, 800)
    apart, level = (
        verdict(LINES, {name: {**each, "spread": spread} for name, each in times.items()}) for spread in (0.01, 0.1)
    )
    assert apart is not None
    assert level is not None
    assert (apart.won, apart.tied) == (True, False)
    assert (level.won, level.tied) == (True, True)
    assert "MiniLM (float32) is better, and level in speed: a tie" in level.why


def test_far_below_the_best_and_near_tf_idf_is_no_win() -> None:
    low = [replace(each, score=0.91) if each.level.startswith("drop") else each for each in LINES]
    found = verdict(low, rates(9000, 100, 90, 400, 800))
    assert found is not None
    assert (found.front, found.near, found.won) == (True, False, False)
    assert verdict(LINES, {}) is None


def test_what_layer_0_gains_is_told_at_the_same_guarantee() -> None:
    without = replace(LINES[3], name="ours, drop-1, no layer 0", words=False)
    times = rates(9000, 100, 90, 400, 800) | {without.key: {"texts_per_second": 160}}
    assert gains_of_words([*LINES, without], times) == {"float32": 2.5}
    assert gains_of_words(LINES, times) == {}


def test_layer_0_counts_at_its_cost_in_layers() -> None:
    times = rates(9000, 100, 100, 400, 800)  # a text of six layers takes 10 ms
    assert depth(LINES[3], times, words_us=1_000_000 / 6000, lines=LINES) == pytest.approx(2.1)
    assert depth(LINES[3], {}, None, LINES) == 2.0


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A corpus of eighty questions, and the folder of its records."""
    folder = tmp_path / "data" / "trec"
    folder.mkdir(parents=True)
    for name, count in (("train", 60), ("test", 20)):
        rows = [f"what is number {name} {row},{'ABC'[row % 3]}" for row in range(count)]
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    out = tmp_path / "out" / "trec"
    out.mkdir(parents=True)
    return Ground(CORPORA[0], tmp_path / "data", out)


def test_the_rows_held_out_are_those_that_training_holds_out(ground: Ground) -> None:
    learn, held = ground.parts
    assert (len(learn), len(held), ground.held_out.sum()) == (54, 6, 6)
    assert {ground.train.texts[row] for row in np.flatnonzero(ground.held_out)} == set(held.texts)
    scores = ground.scores([0, 1, 2, *[0] * 17])
    assert scores["score"] == pytest.approx((3 + 6) / 20, abs=0.06)
    assert 0 < scores["rarest_recall"] < 1


def test_the_page_says_first_where_ours_is_not_on_the_front(ground: Ground, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    write_lines(ground, "ours", LINES, {"asked": {"minilm_rate": 1e-4}})
    for row in {each.row for each in LINES} - {"ours"}:
        write_lines(ground, row, [], {"asked": {"minilm_rate": 1e-4}})
    assert read_lines(ground, "ours") == LINES
    (ground.out / "times.json").write_text(json.dumps({"lines": rates(9000, 900, 90, 400, 800), "rounds": 3}))
    write_page([ground], {"trec": LINES}, tmp_path / "docs")
    page = (tmp_path / "docs" / "frontier.md").read_text()
    assert page.index("On 0 of 1 corpora") < page.index("- TREC: not on the front; ") < page.index("## TREC")
    assert "MiniLM (float32) is faster and better" in page
    assert "TREC: without TF-IDF of words and characters, frozen MiniLM, the cascade, the first layers of ours." in page
    assert "| ours, drop-1 † | float32 | 0.949 |" in page, "no test stands behind it"
    assert "ULMFiT 0.964" in page
    assert (tmp_path / "docs" / "frontier-trec.svg").read_bytes().startswith(b"<?xml")


def test_records_made_otherwise_are_not_mixed_up(tmp_path: Path) -> None:
    frontier.check_settings(tmp_path, {"limit": None, "model": "mini"})
    frontier.check_settings(tmp_path, {"limit": None, "model": "mini"})
    with pytest.raises(SystemExit, match="were made with limit None, not 100; name another --out"):
        frontier.check_settings(tmp_path, {"limit": 100, "model": "mini"})


def test_ours_runs_a_precision_a_heat_and_the_rivals_in_all_of_them() -> None:
    eight = [replace(each, dtype="int8") for each in LINES if each.row == "ours"]
    heats = frontier.heats([*LINES, *eight])
    assert [[line.dtype for line in heat if line.row == "ours"] for heat in heats] == [["float32"] * 3, ["int8"] * 3]
    assert [[line.name for line in heat if line.row != "ours"] for heat in heats] == [["TF-IDF", "MiniLM"]] * 2
    assert frontier.heats(LINES[:1]) == [LINES[:1]]


def test_of_several_heats_the_medians_count_and_failures_do_not() -> None:
    runs = [{"texts_per_second": rate, "p50_ms": None, "reason": None} for rate in (100.0, 300.0, 120.0)]
    failed = {"texts_per_second": None, "p50_ms": None, "reason": "out of memory"}
    assert frontier.median_of([*runs, failed]) == {"texts_per_second": 120.0, "p50_ms": None, "reason": None}
    assert frontier.median_of([failed, failed]) == failed
