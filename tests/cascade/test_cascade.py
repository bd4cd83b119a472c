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
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from elbert import Classifier, TextDataset
from elbert.cascade import Cascade
from elbert.errors import CalibrationWarning, ModelError, UsageError
from elbert.evaluation.evaluate import evaluate
from elbert.exits import make, replay
from elbert.results import LayerOutputs
from elbert.words.fit import fit_words

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


@pytest.fixture(scope="module")
def twins(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Both models once more, saying the same with other weights: a word that no text has means something else."""
    parent = tmp_path_factory.mktemp("twins")
    for folder in folders:
        shutil.copytree(folder, parent / folder.name)
        path = parent / folder.name / "model.safetensors"
        tensors = load_file(path)
        [name] = [name for name in tensors if name.endswith("word_embeddings.weight")]
        tensors[name][-1] += 1
        save_file(tensors, path, {"format": "pt"})
    return parent / "small", parent / "big"


@pytest.fixture
def many(tiny_texts: list[str]) -> list[str]:
    words = " ".join(tiny_texts).split()
    return [" ".join(words[place : place + 3 + place % 7]) for place in range(60)]


def between(outputs: Any) -> float:
    """A threshold that half of the texts are above after the first model."""
    return float(outputs.probs[:, 0].amax(-1).median())


@pytest.mark.parametrize("bad", [None, 3])
def test_what_is_neither_a_text_nor_texts_is_refused_as_a_text_is(folders: Folders, bad: Any) -> None:
    cascade = Cascade.of(folders)
    for answer in (cascade.predict, cascade.record, cascade.predict_proba):
        with pytest.raises(UsageError, match=rf"text 1 is {bad}; a text is a string or a tuple of two strings"):
            answer(bad)


@pytest.mark.parametrize("texts", ["good", ["good"]])
def test_a_batch_size_is_a_count_however_large(folders: Folders, texts: Any) -> None:
    cascade = Cascade.of(folders)
    wrong: Any
    for wrong in (0, -1, 1.5, "8"):
        with pytest.raises(UsageError, match=f"batch_size is {wrong!r}; allowed: a whole number of 1 or more"):
            cascade.predict(texts, batch_size=wrong)
    assert cascade.predict(texts, batch_size=10**20) == cascade.predict(texts)


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
def test_every_rule_of_sureness_decides_as_its_replay_does(
    name: str, folders: Folders, twins: Folders, many: list[str]
) -> None:
    cascade = Cascade.of([twins[0], *folders])
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
    # The second says what the first says, and is no surer.
    assert set(stages.tolist()) == ({2} if value is None else {1, 3})
    ran = np.array([2, 4, 7])[stages - 1]
    assert [each.exit_layer for each in cascade.stream(iter(many), batch_size=1)] == ran.tolist()


def test_states_weights_and_words_of_one_model_decide_nothing_between_models(folders: Folders) -> None:
    cascade = Cascade.of(folders)
    for policy in ("saturation", "certainty", make("max_prob", words=0.9)):
        with pytest.raises(UsageError, match="which a cascade's models have not in common; take max_prob"):
            cascade.equip(policy)
    course = make("any", policies=[{"name": "entropy"}, {"name": "elbert"}])
    for policy in ("elbert", "pcee", "f_pabee", "epee", "beem", course):
        with pytest.raises(UsageError, match="follows one network from layer to layer, .*; take max_prob"):
            cascade.predict("a text", policy=policy)
    both = make("all", policies=[{"name": "entropy"}, {"name": "patience", "patience": 1}])
    assert cascade.equip(both) is both
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
    folders: Folders, twins: Folders, tmp_path: Path
) -> None:
    cascade = Cascade.of([twins[1], folders[1]])  # two that always agree: leaving early costs nothing
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


def test_the_same_model_twice_is_refused_but_for_another_precision(folders: Folders, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders[1], copy)
    with pytest.raises(UsageError, match="models 2 and 3 of the cascade are the same, .*copy.*name models that differ"):
        Cascade.of([*folders, copy])
    rough, exact = (Classifier.from_pretrained(folders[1], dtype=dtype) for dtype in ("bfloat16", "float32"))
    assert len(Cascade([rough, exact]).models) == 2


def test_two_models_cannot_be_calibrated_to_agree(folders: Folders, many: list[str]) -> None:
    cascade = Cascade.of(folders)
    dataset = TextDataset(many, [0] * len(many), cascade.labels, "held-out.csv")
    with pytest.raises(UsageError, match="'patience' lets no text leave before the last of 2 models; take max_prob"):
        cascade.calibrate(dataset, 0.05, policy="patience")


def test_a_rare_class_is_told_of(folders: Folders, twins: Folders) -> None:
    cascade = Cascade.of([twins[1], folders[1]])
    texts = [f"{word} {number}" for word in ("warm", "dull", "story", "film", "a", "wit") for number in range(50)]
    labels = [0] * (len(texts) - 3) + [1] * 3
    with pytest.warns(CalibrationWarning, match="the cascade: a promise of 0.02 .* protects no class this rare: 'bad'"):
        assert cascade.calibrate(TextDataset(texts, labels, cascade.labels, "held-out.csv"), 0.02).guaranteed


def test_a_protected_class_keeps_what_the_last_model_finds_of_it(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    cascade = Cascade.of(folders)
    assert cascade.labels.names == ("fair", "bad", "good")
    labels = torch.arange(800) % 10 % 2  # half "fair", half "bad"
    labels[labels == 1] = 2
    labels[::10] = 1  # a tenth "bad", which the first model takes for "good"; of the rest it knows all
    said = torch.nn.functional.one_hot(torch.stack([labels.where(labels != 1, torch.tensor(2)), labels], 1), 3) * 4.0
    outputs = LayerOutputs(said, said.softmax(-1), torch.full((800,), 5), None, SINGLE)
    monkeypatch.setattr(cascade, "record", lambda *_, **__: outputs)
    dataset = TextDataset([f"text {row}" for row in range(800)], labels.tolist(), cascade.labels, "held-out.csv")
    with pytest.warns(CalibrationWarning, match="protects no class this rare: 'bad'"):
        lax = cascade.calibrate(dataset, 0.2)
    assert (lax.guaranteed, lax.evidence["mean_exit_layer"]) == (True, 1.0)
    assert lax.evidence["classes"][1]["recall"] == 0
    for asked in ({"protect": ["bad"]}, {"per_class": True}):
        strict = cascade.calibrate(dataset, 0.2, **asked)
        assert strict.evidence["classes"][1]["recall"] == 1
        assert strict.evidence["mean_exit_layer"] == 2.0
        assert strict.evidence["protect"] == (["bad"] if "protect" in asked else ["fair", "bad", "good"])
    with pytest.warns(CalibrationWarning, match="protects no class this rare: 'bad'"):
        assert "protected class" in cascade.calibrate(dataset, 0.2, protect=["fair"]).evidence["note"]
    with pytest.raises(UsageError, match="unknown class 'awful' to protect"):
        cascade.calibrate(dataset, 0.2, protect=["awful"])


def test_at_full_depth_the_last_model_is_asked_alone(folders: Folders, many: list[str]) -> None:
    cascade, big = Cascade.of(folders), Classifier.from_pretrained(folders[1])
    for policy in (None, "full", make("max_prob", min_layer=2), make("fixed", layer=2)):
        found = cascade.predict(many, policy=policy)
        assert [each.label for each in found] == [each.label for each in big.predict(many)]
        assert {(each.exit_layer, each.layers, each.member, each.cost) for each in found} == {(3, 6, 2, 3.0)}
    np.testing.assert_allclose(cascade.predict_proba(many), big.predict_proba(many), atol=1e-6)
    assert cascade.classes_ == big.classes_


def test_what_a_text_costs_counts_each_models_layers_by_their_size(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, many: list[str]
) -> None:
    narrow = tiny_model("bert", hidden_size=8, intermediate_size=12)
    narrow.save_pretrained(tmp_path / "narrow", tiny_tokenizer, {})
    wide = tiny_model("bert", seed=1)
    wide.save_pretrained(tmp_path / "wide", tiny_tokenizer, {})
    cascade = Cascade.of([tmp_path / "narrow", tmp_path / "wide"], problem_type=SINGLE)
    cascade.policy = make("max_prob", threshold=between(cascade.record(many)))
    found = cascade.predict(many)
    # Half as wide in every matrix: a quarter of the elements.
    assert {(each.member, each.exit_layer, each.cost) for each in found} == {(1, 3, 0.75), (2, 6, 3.75)}
    assert found[0].to_dict().keys() >= {"member", "cost"}


@pytest.mark.parametrize("words", [False, True])
def test_it_is_scored_beside_its_last_model(words: bool, folders: Folders, many: list[str]) -> None:
    cascade = Cascade.of(folders)
    small, big = cascade.models
    if words:
        ids = [arrival.ids for arrival in sorted(small.arrivals(many, {}), key=lambda each: each.index)]
        small.engine.words = fit_words(ids, np.arange(len(many)) % 3, 3)
        small.policy = make("fixed", layer=2, words=0.0)  # every text leaves at layer 0
    cascade.policy = make("max_prob", threshold=between(cascade.record(many)))
    wanted = [cascade.labels.names.index(each.label) for each in big.predict(many)]
    result = evaluate(cascade, TextDataset(many, wanted, cascade.labels, "test.csv"), repeats=1)
    found = cascade.predict(many)
    left = [sum(each.member == number for each in found) for number in (1, 2)]
    assert min(left) > 10
    assert (result.models, result.layers, result.exit_histogram) == (2, 3, tuple(left))
    agrees = np.mean([each.label == cascade.labels.names[label] for each, label in zip(found, wanted, strict=True)])
    assert (result.full_depth_score, result.score) == (1.0, pytest.approx(agrees))
    ran = np.mean([each.cost for each in found])
    assert result.mean_exit_layer == pytest.approx(ran + (result.layer_0_cost or 0.0))
    assert result.layer_speedup == pytest.approx(3 / result.mean_exit_layer)
    assert (result.layer_0, (result.layer_0_cost or 0) > 0) == ((left[0], True) if words else (None, False))


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
    with pytest.raises(UsageError, match="is a cascade of models: predict, evaluate and serve take it"):
        Classifier.from_pretrained(tmp_path / "both")
    with pytest.raises(UsageError, match="is no cascade"):
        Cascade.from_pretrained(folders[0])
