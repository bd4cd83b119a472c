"""Cascades: which model answers, in which order of classes, what is promised, and the folder they are saved in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from elbert import Classifier, TextDataset
from elbert.cascade import Cascade
from elbert.errors import CalibrationWarning, ModelError, UsageError
from elbert.exits import make, replay

Folders = tuple[Path, Path]
SINGLE = "single_label_classification"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any, tiny_tokenizer: Any) -> Folders:
    """An ALBERT of ours that leaves early, and a plain BERT of others whose classes stand in another order."""
    parent = tmp_path_factory.mktemp("models")
    names = {0: "bad", 1: "good", 2: "fair"}
    small = tiny_model("albert", id2label=names, label2id={v: k for k, v in names.items()}, problem_type=SINGLE)
    policies = {"early": make("fixed", layer=2).to_dict()}
    small.save_pretrained(parent / "small", tiny_tokenizer, {"policies": policies, "default_policy": "early"})
    others = {0: "fair", 1: "bad", 2: "good"}
    big = tiny_model("bert", seed=1, id2label=others, label2id={v: k for k, v in others.items()}, problem_type=SINGLE)
    big.backbone.save_pretrained(parent / "big")
    tiny_tokenizer.save_pretrained(parent / "big")
    return parent / "small", parent / "big"


@pytest.fixture
def many(tiny_texts: list[str]) -> list[str]:
    words = " ".join(tiny_texts).split()
    return [" ".join(words[place : place + 3 + place % 7]) for place in range(60)]


def between(outputs: Any) -> float:
    """A threshold that half of the texts are above after the first model."""
    return float(outputs.probs[:, 0].amax(-1).median())


def test_the_first_model_that_is_sure_answers_and_layers_of_all_that_ran_are_counted(
    folders: Folders, many: list[str]
) -> None:
    cascade = Cascade.of(folders)
    outputs = cascade.record(many)
    threshold = between(outputs)
    cascade.policy = make("max_prob", threshold=threshold)
    alone = [Classifier.from_pretrained(folder) for folder in folders]
    first, second = (model.predict(many) for model in alone)
    found = cascade.predict(many, batch_size=2)
    asked = [each.score <= threshold for each in first]
    assert 10 < sum(asked) < 50
    for answer, early, late, on in zip(found, first, second, asked, strict=True):
        assert answer.label == (late.label if on else early.label)
        assert answer.score == pytest.approx(late.score if on else early.score, abs=1e-5)
        assert (answer.exit_layer, answer.layers) == (2 + 3 * on, 6)  # the first leaves after 2 of its 3
    stages = replay(cascade.policy, outputs)
    assert [1 + on for on in asked] == stages.tolist()
    assert cascade.predict(many[0]) == found[0]


def test_classes_are_matched_by_name(folders: Folders, many: list[str]) -> None:
    outputs, big = Cascade.of(folders).record(many), Classifier.from_pretrained(folders[1])
    small = Classifier.from_pretrained(folders[0])
    assert big.labels.names == ("fair", "bad", "good")
    np.testing.assert_allclose(outputs.probs[:, 1], big.predict_proba(many), atol=1e-6)
    np.testing.assert_allclose(outputs.probs[:, 0], small.predict_proba(many)[:, [2, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(outputs.logits.softmax(-1), outputs.probs, atol=1e-5)


@pytest.mark.parametrize("name", ["max_prob", "energy", "entropy", "patience"])
def test_every_rule_of_sureness_decides_as_its_replay_does(name: str, folders: Folders, many: list[str]) -> None:
    cascade = Cascade.of([folders[0], *folders])
    outputs = cascade.record(many)
    first = outputs.probs[:, 0]
    value = {
        "max_prob": between(outputs),
        "energy": float(torch.logsumexp(outputs.logits[:, 0], -1).median()),
        "entropy": float(-(first * first.log()).sum(-1).median() / np.log(3)),
        "patience": None,
    }[name]
    cascade.policy = make(name, patience=1) if value is None else make(name, threshold=value)
    stages = replay(cascade.policy, outputs).numpy()
    # The second is the first again: it says the same, and is no surer.
    assert set(stages.tolist()) == ({2} if value is None else {1, 3})
    ran = np.array([2, 4, 7])[stages - 1]
    assert [each.exit_layer for each in cascade.stream(iter(many), batch_size=1)] == ran.tolist()


def test_states_weights_and_words_of_one_model_decide_nothing_between_models(folders: Folders) -> None:
    cascade = Cascade.of(folders)
    for policy in ("saturation", "certainty", make("max_prob", words=0.9)):
        with pytest.raises(UsageError, match="which a cascade's models have not in common; take max_prob"):
            cascade.equip(policy)
    with pytest.raises(UsageError, match="two models or more; given: 1"):
        Cascade.of(folders[:1])


def test_models_of_other_classes_make_no_cascade(folders: Folders, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders[1], other)
    config = json.loads((other / "config.json").read_text())
    config["id2label"] = {"0": "fair", "1": "bad", "2": "great"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="answer with the same classes; given: .*good.* and .*great"):
        Cascade.of([folders[0], other])


def test_what_is_promised_is_tested_as_for_the_exits_of_one_model_and_saved_with_it(
    folders: Folders, tmp_path: Path
) -> None:
    cascade = Cascade.of([folders[1], folders[1]])  # two that always agree: leaving early costs nothing
    texts = [f"{word} {number}" for word in ("warm", "dull", "story", "film", "a", "wit") for number in range(50)]
    dataset = TextDataset(texts, [0] * len(texts), cascade.labels, "held-out.csv")
    found = cascade.calibrate(dataset, 0.02)
    assert found.guaranteed
    assert found.evidence["score"] == found.evidence["full_depth_score"]
    assert found.evidence["mean_exit_layer"] < 2
    cascade.save_pretrained(tmp_path / "both")
    again = Cascade.from_pretrained(tmp_path / "both")
    assert (again.policy, again.evidence["note"]) == (cascade.policy, found.evidence["note"])
    assert again.predict(texts[:20]) == cascade.predict(texts[:20])
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"1", "2", "README.md", "cascade.json"}
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "both" / "2")  # whole models, for every tool
    with pytest.warns(CalibrationWarning, match="policy 'cascade' was calibrated in float32, not bfloat16"):
        Cascade.from_pretrained(tmp_path / "both", dtype="bfloat16")


def test_where_the_first_model_is_wrong_the_last_one_answers_everything(folders: Folders, many: list[str]) -> None:
    cascade = Cascade.of(folders)
    outputs = cascade.record(many)
    assert (outputs.probs[:, 0].argmax(-1) != outputs.probs[:, 1].argmax(-1)).float().mean() > 0.2
    answers = outputs.probs[:, 1].argmax(-1).tolist()
    found = cascade.calibrate(TextDataset(many, answers, cascade.labels, "held-out.csv"), 0.05)
    assert (found.evidence["score"], found.evidence["full_depth_score"]) == (1.0, 1.0)
    assert [each.label for each in cascade.predict(many)] == [cascade.labels.names[answer] for answer in answers]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda content: content.update(format=9), "format is 9"),
        (lambda content: content.update(models=3), "names 3 models"),
        (lambda content: content.update(policy={"name": "max_prop"}), "did you mean 'max_prob'"),
    ],
)
def test_a_folder_that_is_damaged_says_so(
    spoil: Callable[[Any], None], reason: str, folders: Folders, tmp_path: Path
) -> None:
    Cascade.of(folders).save_pretrained(tmp_path / "both")
    path = tmp_path / "both" / "cascade.json"
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=reason):
        Cascade.from_pretrained(tmp_path / "both")


def test_other_readers_are_told_what_the_folder_is(folders: Folders, tmp_path: Path) -> None:
    Cascade.of(folders).save_pretrained(tmp_path / "both")
    with pytest.raises(UsageError, match="is a cascade of models: elbert predict runs it"):
        Classifier.from_pretrained(tmp_path / "both")
    with pytest.raises(UsageError, match="is no cascade"):
        Cascade.from_pretrained(folders[0])
