"""A classifier calibrates itself: what it then does, saves, loads, warns of, and refuses."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elbert import Classifier, TextDataset
from elbert.data import Labels
from elbert.data.source import fingerprint, sketch
from elbert.errors import CalibrationWarning, DataError, MissingExtraError, UsageError
from elbert.exits import make

Build = Callable[..., Classifier]


@pytest.fixture
def build(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Build:
    """`build(elbert=None, **options)`: a classifier over random weights, labels bad and good."""

    def make_classifier(elbert: dict[str, Any] | None = None, **options: Any) -> Classifier:
        names = {0: "bad", 1: "good"}
        model = tiny_model("albert", num_labels=2, id2label=names, problem_type="single_label_classification")
        return Classifier(model, tiny_tokenizer, elbert, **options)

    return make_classifier


@pytest.fixture
def texts(tiny_texts: list[str]) -> list[str]:
    """Four hundred different texts."""
    return [f"{tiny_texts[row % 8]} {row}" for row in range(400)]


def test_one_promise_becomes_the_policy_in_use_and_survives_saving(
    build: Build, texts: list[str], tmp_path: Path
) -> None:
    classifier = build()
    labels = ["good" if row % 2 else "bad" for row in range(len(texts))]
    found = classifier.calibrate(texts, labels, max_drop=0.5, confidence=0.8)
    assert list(found) == ["drop-50"]
    assert found["drop-50"].guaranteed
    assert classifier.policy == classifier.policies["drop-50"] == found["drop-50"].policy
    classifier.save_pretrained(tmp_path / "model")
    again = Classifier.from_pretrained(tmp_path / "model")
    assert again.policy == classifier.policy
    evidence = again.calibration["drop-50"]
    assert evidence == found["drop-50"].evidence
    assert (evidence["dtype"], evidence["backend"], evidence["n"]) == ("float32", "torch", 400)
    assert evidence["sha256"] == fingerprint(texts, [row % 2 for row in range(400)])
    assert {"date", "elbert", "source"} <= set(evidence)
    assert again.predict(texts[:20]) == classifier.predict(texts[:20])


def test_the_ladder_is_saved_beside_the_policies_there_are_and_one_level_answers_from_then_on(
    build: Build, texts: list[str], tmp_path: Path
) -> None:
    saved = {"mine": make("patience", patience=2).to_dict()}
    classifier = build({"policies": saved, "default_policy": "mine"})
    classifier.calibrate(texts, [0, 1] * 200)
    assert classifier.policy == classifier.policies["drop-1"]
    classifier.save_pretrained(tmp_path / "model")
    content = json.loads((tmp_path / "model" / "elbert.json").read_text())
    assert list(content["policies"]) == ["mine", "exact", "drop-0.5", "drop-1", "drop-2"]
    assert list(content["calibration"]) == ["exact", "drop-0.5", "drop-1", "drop-2"]
    assert content["default_policy"] == "drop-1"
    assert Classifier.from_pretrained(tmp_path / "model").policy == classifier.policies["drop-1"]
    classifier.calibrate(texts, [0, 1] * 200, default="mine")
    assert classifier.policy == make("patience", patience=2)
    assert classifier.metadata.default_policy == "mine"


def test_without_elbert_json_every_text_runs_all_layers_until_a_policy_is_named_or_calibrated(
    build: Build, texts: list[str], tmp_path: Path
) -> None:
    build().model.backbone.save_pretrained(tmp_path / "plain")
    build().tokenizer.save_pretrained(tmp_path / "plain")
    plain = Classifier.from_pretrained(tmp_path / "plain")
    assert {each.exit_layer for each in plain.predict(texts[:50])} == {plain.num_layers}
    assert plain.predict(texts[0], policy=make("fixed", layer=1)).exit_layer == 1
    (found,) = plain.calibrate(texts, [0, 1] * 200, max_drop=0.001).values()  # 400 texts can't show that
    assert not found.guaranteed
    plain.save_policies(tmp_path / "plain")
    again = Classifier.from_pretrained(tmp_path / "plain")
    assert {each.exit_layer for each in again.predict(texts[:50])} == {plain.num_layers}
    plain.calibrate(texts, max_drop=0.9, confidence=0.5)
    plain.save_policies(tmp_path / "copy")
    assert {each.exit_layer for each in Classifier.from_pretrained(tmp_path / "copy").predict(texts[:50])} == {1}


def test_without_labels_agreement_is_promised(build: Build, texts: list[str]) -> None:
    found = build().calibrate(texts, max_drop=0.4, name="same")
    assert found["same"].evidence["control"] == "agreement"


def test_another_dtype_or_backend_than_calibrated_warns_once_and_only_who_uses_the_policy(
    build: Build, texts: list[str]
) -> None:
    classifier = build()
    classifier.calibrate(texts, [0, 1] * 200, max_drop=0.4, name="mine")
    content = json.loads(json.dumps(classifier._elbert_json()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(content).predict(texts[0])
        elsewhere = build(content, dtype="bfloat16", policy="full")
        elsewhere.predict(texts[0])
    with pytest.warns(CalibrationWarning, match="'mine' was calibrated in float32, not bfloat16") as caught:
        elsewhere.predict([texts[0]], policy="mine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        elsewhere.predict([texts[0]], policy="mine")
    assert len(caught) == 1
    with pytest.warns(CalibrationWarning, match="float32, not bfloat16"):
        build(content, dtype="bfloat16")
    content["calibration"]["mine"]["backend"] = "openvino"
    with pytest.warns(CalibrationWarning, match="openvino, not torch"):
        build(content)


def test_the_texts_a_model_was_trained_on_are_refused_and_those_that_chose_its_step_warned_of(
    build: Build, texts: list[str]
) -> None:
    labels = [0, 1] * 200
    digest = fingerprint(texts, labels)[:16]

    def trained_on(part: str) -> Classifier:
        data = {"train": {}, "evaluation": {}} | {part: {"name": "a/train.csv", "rows": 400, "digest": digest}}
        return build({"training": {"data": data}})

    with pytest.raises(UsageError, match="all 400 texts are those the model was trained on"):
        trained_on("train").calibrate(texts, labels, max_drop=0.1)
    with pytest.warns(CalibrationWarning, match="chose the step"):
        trained_on("evaluation").calibrate(texts, labels, max_drop=0.1)
    part = TextDataset(texts[:300], labels[:300], build().labels, "elsewhere/a/train.csv")
    with pytest.warns(CalibrationWarning, match="a file of that name"):
        trained_on("train").calibrate(part, max_drop=0.1)


@pytest.mark.parametrize("training", ["x", {"data": "x"}, {"data": {"train": 5, "evaluation": None}}])
def test_a_record_of_the_training_of_another_shape_is_no_obstacle(
    build: Build, texts: list[str], training: object
) -> None:
    assert build({"training": training}).calibrate(texts, [0, 1] * 200, max_drop=0.5)["drop-50"].guaranteed


def test_progress_is_told_in_texts_and_policies(build: Build, texts: list[str]) -> None:
    told: list[int] = []
    policies: list[int] = []
    build().calibrate(texts * 2, [0, 1] * 400, max_drop=0.1, on_texts=told.append, on_policy=lambda: policies.append(1))
    assert sum(told) == 800
    assert len(policies) > 10


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_drop": 2.0}, "max_drop is 2"),
        ({"max_drop": "0.1"}, "max_drop is '0.1'; allowed: a number"),
        ({"confidence": 2.0}, "confidence is 2"),
        ({"confidence": "90 %"}, "confidence is '90 %'; allowed: a number"),
        ({"policy": "elbrt"}, "did you mean 'elbert'"),
        ({"metric": "pearson"}, "does not fit"),
        ({"name": "mine"}, "names of their own"),
        ({"name": "full", "max_drop": 0.1}, "name 'full' is taken by the exit policy itself"),
        ({"name": "", "max_drop": 0.1}, "name is empty"),
        ({"default": "drop-3"}, "is no policy of this model; did you mean 'drop-2'|'drop-1'"),
    ],
)
def test_a_wrong_request_is_refused_before_any_text_is_run(build: Build, arguments: dict[str, Any], words: str) -> None:
    def never() -> Any:
        raise AssertionError("a text was asked for")
        yield

    with pytest.raises(UsageError, match=words):
        build().calibrate(never(), [0, 1], **arguments)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("held-out.csv", "many texts are wanted, and 'held-out.csv' is one.*a file is read with elbert.data.load_data"),
        ({"text": ["a"] * 20, "label": [0, 1] * 10}, "of type dict, which holds columns"),
    ],
)
def test_what_is_no_list_of_texts_is_not_walked_over(build: Build, given: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build().calibrate(given, max_drop=0.5)
    with pytest.raises(UsageError, match=words):
        Classifier.fit(given, ["good", "bad"], model="random-tiny")


@pytest.mark.parametrize("text", [None, 3, ["a", "b"], ("a", "b", "c")])
def test_what_is_no_text_is_not_learnt_from(text: Any) -> None:
    with pytest.raises(UsageError, match="text 2 is .*; a text is a string or a tuple of two strings"):
        Classifier.fit(["a", text], ["good", "bad"], model="random-tiny")


def test_labels_that_do_not_fit_are_refused(build: Build, texts: list[str]) -> None:
    with pytest.raises(DataError, match="label 2.*never seen"):
        build().calibrate(texts[:2], ["good", "odd"])
    with pytest.raises(UsageError, match="one label a text"):
        build().calibrate(texts, ["good"])
    dataset = TextDataset(texts, [0, 1] * 200, build().labels)
    with pytest.raises(UsageError, match="brings its own labels"):
        build().calibrate(dataset, [0, 1] * 200)


def test_a_data_set_that_numbers_its_classes_otherwise_is_calibrated_on_by_their_names(
    build: Build, texts: list[str]
) -> None:
    labels = [row % 2 for row in range(400)]
    kind = build().labels.problem_type
    turned = TextDataset(texts, [1 - label for label in labels], Labels(kind, ("good", "bad")), "texts")
    found = [build().calibrate(given, max_drop=0.5) for given in (TextDataset(texts, labels, build().labels), turned)]
    scores = [each["drop-50"].evidence["full_depth_score"] for each in found]
    assert scores[0] == scores[1]


def test_todays_texts_are_compared_with_the_calibrations(build: Build, texts: list[str]) -> None:
    classifier = build()
    classifier.calibrate(texts, [0, 1] * 200, max_drop=0.4, name="mine")
    same = classifier.check(texts, "mine")
    assert same.p_value == 1.0
    assert list(same.exit_histogram) == classifier.calibration["mine"]["exit_histogram"]
    other = classifier.check(["awful"] * 200, "mine")
    assert other.p_value < 0.01
    with pytest.raises(UsageError, match="did you mean 'mine'"):
        classifier.check(texts, "mien")
    with pytest.raises(DataError, match="no texts"):
        classifier.check([], "mine")


def trained_on(build: Build, texts: list[str]) -> Classifier:
    part = {"name": "a/train.csv", "rows": len(texts), "digest": "0" * 16, "sketch": sketch(texts)}
    return build({"training": {"data": {"train": part}}})


@pytest.mark.parametrize("kind", ["a copy", "shuffled", "without a row", "among many others"])
def test_texts_the_model_was_trained_on_are_refused_however_they_come(
    build: Build, texts: list[str], kind: str
) -> None:
    others = [f"another text {row}" for row in range(400)]
    given = {
        "a copy": list(texts),
        "shuffled": texts[::-1],
        "without a row": texts[1:],
        "among many others": [*others, *texts[:10]],
    }[kind]
    known = len(set(given) & set(texts))
    classifier = trained_on(build, texts)
    with pytest.raises(UsageError, match=f"{known} of {len(given)} texts are among the 400 .*--allow-seen"):
        classifier.calibrate(given, max_drop=0.5)
    with pytest.warns(CalibrationWarning, match="the model was trained on"):
        classifier.calibrate(given, max_drop=0.5, allow_seen=True)


def test_a_text_or_two_in_common_are_chance(build: Build, texts: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained_on(build, texts).calibrate([*(f"other {row}" for row in range(400)), texts[0]], max_drop=0.5)


@pytest.mark.parametrize("copies", [1.0, 0.2])
def test_copies_of_a_text_are_told_as_a_test_takes_them_for_others(
    build: Build, texts: list[str], copies: float
) -> None:
    count = round(copies * 400)
    given = [*(f"  {texts[0].upper()}" if row % 2 else texts[0] for row in range(count)), *texts[count:]]
    with pytest.warns(CalibrationWarning, match=rf"only {len(texts) - count + 1} of 400 texts differ.*drop the copies"):
        build().calibrate(given, max_drop=0.5)


def test_a_promise_made_on_other_weights_or_another_device_is_told(
    build: Build, texts: list[str], tiny_model: Callable[..., Any], tiny_tokenizer: Any
) -> None:
    classifier = build()
    classifier.calibrate(texts, [0, 1] * 200, max_drop=0.4, name="mine")
    evidence = classifier.calibration["mine"]
    assert evidence["device"] == "cpu"
    assert len(evidence["weights"]) == 16
    content = classifier._elbert_json()
    names = {"num_labels": 2, "id2label": {0: "bad", 1: "good"}, "problem_type": "single_label_classification"}
    with pytest.warns(CalibrationWarning, match="another model's weights"):
        Classifier(tiny_model("albert", seed=1, **names), tiny_tokenizer, content)
    content["calibration"]["mine"]["device"] = "cuda"
    with pytest.warns(CalibrationWarning, match="cuda, not cpu"):
        build(content)


def test_a_regression_of_two_layers_ends_in_full_depth(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, texts: list[str]
) -> None:
    model = tiny_model("albert", num_labels=1, problem_type="regression", num_hidden_layers=2)
    classifier = Classifier(model, tiny_tokenizer)
    (found,) = classifier.calibrate(texts, [row / 10 for row in range(400)], max_drop=0.1).values()
    assert found.policy == make("full")


def test_a_multi_label_model_that_does_not_say_so_is_read_as_asked_and_remembers(
    build: Build, texts: list[str], tmp_path: Path
) -> None:
    build().save_pretrained(tmp_path / "model")
    plain = Classifier.from_pretrained(tmp_path / "model")
    with pytest.raises(DataError, match="is a list, but the model is single-label by its config.*--problem-type"):
        plain.calibrate(texts, [["good"]] * 400)
    asked = Classifier.from_pretrained(tmp_path / "model", problem_type="multi_label_classification")
    assert asked.predict(texts[0]).label == tuple(
        name for name, p in zip(asked.classes_, asked.predict_proba(texts[:1])[0], strict=True) if p >= 0.5
    )
    asked.calibrate(texts, [["good"], []] * 200, max_drop=0.5)
    asked.save_policies(tmp_path / "copy")
    again = Classifier.from_pretrained(tmp_path / "copy")
    assert again.problem_type == "multi_label_classification"
    assert again.predict(texts[:9]) == asked.predict(texts[:9])
    with pytest.raises(UsageError, match="unknown problem_type 'multi_label'; allowed: single"):
        Classifier.from_pretrained(tmp_path / "model", problem_type="multi_label")


def test_without_scipy_that_is_said_before_a_text_is_run(
    build: Build, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = build()
    hidden: Any = None
    for part in ("special", "stats"):
        monkeypatch.setitem(sys.modules, f"scipy.{part}", hidden)
    monkeypatch.setattr(classifier, "record", lambda *_, **__: pytest.fail("texts were run first"))
    for ask in (lambda: classifier.calibrate(texts, max_drop=0.1), lambda: classifier.check(texts)):
        with pytest.raises(MissingExtraError, match=r"^scipy is needed .*pip install 'elbert\[calibrate\]'"):
            ask()
