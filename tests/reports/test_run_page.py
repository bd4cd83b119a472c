"""The page of a run: whole, safe, and holding what `evaluate`, `replay` and `elbert.json` say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from elbert.classifier import Classifier
from elbert.data import TextDataset
from elbert.evaluation.evaluate import evaluate
from elbert.exits import make, replay
from elbert.reports.evidence import evidence_of
from elbert.reports.run_page import Report, report_of, run_page
from elbert.reports.summary import summary
from elbert.reports.texts import groups
from tests.reports.conftest import EVIL, KINDS
from tests.reports.reader import checked

Build = Callable[..., Classifier]
Data = Callable[..., TextDataset]


def report(build: Build, dataset: Data, problem_type: str = KINDS[0], **options: Any) -> Report:
    classifier = build(problem_type)
    classifier.policy = make("elbert", threshold=0.9, window=2)
    return report_of(classifier, dataset(problem_type), title="Reviews", lead="Some reviews.", **options)


@pytest.mark.parametrize("problem_type", KINDS)
@pytest.mark.parametrize("labelled", [True, False])
def test_every_problem_type_has_a_page_with_and_without_labels(
    build: Build, dataset: Data, problem_type: str, labelled: bool
) -> None:
    classifier, data = build(problem_type), dataset(problem_type)
    if not labelled:
        data = TextDataset(data.texts)
    page = checked(run_page(report_of(classifier, data, title="Reviews", lead="Some.")))
    for word in ("Where the 40 texts left", "Texts worth reading", "What leaving early changed", "mean exit layer"):
        assert word in page.words
    assert ("How deep is deep enough" in page.words) is True
    assert "How this policy was chosen" not in page.words


def test_exits_are_those_of_replay_whatever_the_parts(build: Build, dataset: Data) -> None:
    classifier = build()
    policy = classifier.policy = make("elbert", threshold=0.9, window=2)
    seen: list[int] = []
    made = report_of(classifier, dataset(), title="", lead="", batch_size=1, on_texts=seen.append)
    assert made.run.exit_layer.tolist() == replay(policy, classifier.record(dataset().texts)).tolist()
    assert sum(seen) == 40


def test_the_page_of_an_evaluation_holds_every_row_of_its_table(build: Build, dataset: Data) -> None:
    classifier = build()
    result = evaluate(classifier, dataset(), repeats=1)
    words = checked(run_page(report_of(classifier, dataset(), title="", lead="", evaluation=result))).words
    for name, value in summary(result):
        assert name in words
        assert value in words
    assert "on the clock" in words


def test_texts_that_layer_0_answers_are_counted_and_shown_as_such(worded: Build, dataset: Data) -> None:
    classifier = worded()
    classifier.policy = make("elbert", threshold=0.9, window=2, words=0.9)
    texts = [text.replace("warm", "cold") if row % 2 else text for row, text in enumerate(dataset().texts)]
    data = replace(dataset(), texts=texts)
    made = report_of(classifier, data, title="", lead="")
    run, result = made.run, evaluate(classifier, data, repeats=1)
    assert run.layer_0 == result.layer_0 == run.to_dict()["layer_0"]
    assert run.layer_0 == 20
    assert run.layer_0 + sum(run.histogram) == 40
    assert made.score == pytest.approx(result.score), "layer 0's answers are scored, not the layers' behind them"
    html = run_page(made)
    words = checked(html).words
    for word in ("before the first layer", "texts at layer 0", "the first of them layer 0", "without layer 0"):
        assert word in words
    assert "after layer 0" not in html
    assert '<th scope="row"><bdi>0</bdi></th><td class="n">20</td>' in html
    early = next(text for group in groups(run) for text in group["texts"] if text["where"] == "before the first layer")
    assert (early["place"], len(early["marks"])) == (0, 1 + run.layers)
    assert "at the exit, before the first layer" in dict(early["facts"])
    late = next(text for group in groups(run) for text in group["texts"] if text["where"].startswith("after"))
    assert late["where"] == f"after layer {late['place']} of {run.layers}"


@pytest.mark.parametrize("timed", [True, False])
def test_a_page_counts_layer_0_at_its_cost_in_every_setting(
    worded: Build, dataset: Data, monkeypatch: pytest.MonkeyPatch, timed: bool
) -> None:
    classifier = worded()
    classifier.policy = make("elbert", threshold=0.9, window=2, words=0.9)
    result = replace(evaluate(classifier, dataset(), repeats=1), layer_0_cost=0.5) if timed else None
    monkeypatch.setattr(Classifier, "layer_0_cost", lambda *_, **__: lambda policy: 0.5 * (policy.words is not None))
    made = report_of(classifier, dataset(), title="", lead="", evaluation=result)
    assert [each.policy.words for each in made.points] == [0.9] * len(made.points)
    exits = {each.policy: float(replay(each.policy, made.run.outputs).double().mean()) for each in made.points}
    assert all(each.mean_exit_layer == pytest.approx(exits[each.policy] + 0.5) for each in made.points)
    assert min(exits.values()) < 1, "layer 0 takes texts under every setting"
    layers = float(made.run.exit_layer.double().mean()) + 0.5
    assert f"{layers:.1f} of 4" in checked(run_page(made)).words
    told = made.run.to_dict()
    assert (told["mean_exit_layer"], told["layer_0_cost"]) == (pytest.approx(layers), 0.5)
    assert told["layer_speedup"] == pytest.approx((4 + 0.5 * timed) / layers)


def test_where_all_texts_leave_at_layer_0_its_cost_is_all_there_is(worded: Build, dataset: Data) -> None:
    classifier = worded()
    classifier.policy = make("full", words=0.1)
    made = report_of(classifier, dataset(), title="", lead="")
    words = checked(run_page(made)).words
    assert 0 < made.run.mean_exit_layer == made.run.to_dict()["layer_0_cost"]
    assert "40; it costs every text as much as" in words


def test_whatever_comes_from_data_is_escaped(build: Build, dataset: Data) -> None:
    names = (EVIL, "</title><b>", "\u202eodd")
    classifier = build(names=names)
    data = replace(dataset(names=names), texts=[f"{EVIL} {row}".replace("\ud800", "") for row in range(40)])
    made = report_of(classifier, data, title=EVIL, lead=EVIL, facts=[(EVIL, EVIL)], notes=[EVIL])
    html = run_page(made)
    checked(html)
    assert "<script>alert" not in html
    html.encode("utf-8")


def test_many_classes_are_folded_but_all_there(build: Build, dataset: Data) -> None:
    names = tuple(f"class {number:03}" for number in range(40))
    made = report_of(build(names=names), dataset(names=names), title="", lead="")
    words = checked(run_page(made)).words
    assert "All 40 classes" in words
    assert all(name in words for name in names)


def test_long_texts_are_cut_for_display(build: Build) -> None:
    html = run_page(report_of(build(), TextDataset(["word " * 20_000] * 30), title="", lead=""))
    checked(html)
    assert len(html) < 200_000


def test_pairs_and_a_single_text_have_a_page(build: Build) -> None:
    checked(run_page(report_of(build(), TextDataset([("a film", "its pair")]), title="", lead="")))


ENTRY = {
    "max_drop": 0.005,
    "confidence": 0.9,
    "metric": "accuracy",
    "control": "labels",
    "method": "fixed sequence",
    "bound": "exact binomial",
    "tried": 120,
    "n": 872,
    "source": "dev.tsv",
    "sha256": "ab12",
    "date": "2026-01-02",
    "dtype": "float32",
    "backend": "torch",
    "score": 0.84,
    "full_depth_score": 0.842,
    "mean_exit_layer": 4.1,
    "layer_speedup": 2.9,
    "p_value": 0.03,
    "guaranteed": True,
    "exits": [{"layer": 1, "temperature": 1.2, "ece": 0.05, "brier": 0.2, "auroc": 0.8}],
}


def with_evidence(made: Report, **changes: Any) -> Report:
    policies = {"drop-0.5": made.run.policy, "exact": make("full")}
    found = evidence_of({"drop-0.5": {**ENTRY, **changes}, "exact": ENTRY}, policies, made.run.policy)
    return replace(made, found=found)


def test_calibration_evidence_is_shown_when_the_model_carries_it(build: Build, dataset: Data) -> None:
    words = checked(run_page(with_evidence(report(build, dataset)))).words
    for word in ("How this policy was chosen", "drop-0.5", "0.005", "guaranteed", "872", "ab12", "Brier", "AUROC"):
        assert word in words
    assert "other conditions" not in words
    assert "Other calibrated policies" in words


@pytest.mark.parametrize(("key", "value"), [("dtype", "bfloat16"), ("backend", "openvino")])
def test_evidence_from_another_dtype_or_backend_is_warned_of(build: Build, dataset: Data, key: str, value: str) -> None:
    words = checked(run_page(with_evidence(report(build, dataset), **{key: value}))).words
    assert "Calibrated under other conditions" in words
    assert value in words


def test_a_policy_without_evidence_beside_calibrated_ones_is_warned_of(build: Build, dataset: Data) -> None:
    found = evidence_of({"exact": ENTRY}, {"exact": make("full")}, make("patience"))
    words = checked(run_page(replace(report(build, dataset), found=found))).words
    assert "Not calibrated" in words


def test_promises_that_ended_in_the_same_policy_are_shown_once(build: Build, dataset: Data) -> None:
    full = make("full")
    found = evidence_of({"exact": ENTRY, "drop-1": ENTRY}, {"exact": full, "drop-1": full}, full)
    html = run_page(replace(report(build, dataset), found=found))
    assert html.count("sha256 of the data") == 1


@pytest.mark.parametrize("broken", [{}, {"drop-0.5": 3}, {"drop-0.5": {}}, {"drop-0.5": {"exits": [1], "score": "x"}}])
def test_evidence_of_another_shape_never_breaks_the_page(build: Build, dataset: Data, broken: Any) -> None:
    made = report(build, dataset)
    found = evidence_of(broken, {"drop-0.5": made.run.policy}, made.run.policy)
    checked(run_page(replace(made, found=found)))


def test_what_calibrate_promises_is_what_the_page_says(build: Build, dataset: Data) -> None:
    classifier = build()
    data = dataset()
    classifier.calibrate(data.texts, [data.label_space.decode(label) for label in data.labels], 0.5)  # type: ignore
    name = next(iter(classifier.calibration))
    classifier.policy = classifier.policies[name]
    words = checked(run_page(report_of(classifier, data, title="", lead=""))).words
    for word in (name, classifier.calibration[name]["note"], classifier.calibration[name]["sha256"]):
        assert word in words
    assert "other conditions" not in words


def test_the_same_run_gives_the_same_bytes(build: Build, dataset: Data) -> None:
    torch.manual_seed(1)
    assert run_page(report(build, dataset)) == run_page(report(build, dataset))
