"""Layer 0 from training to use: fitted at the end, saved, calibrated, counted."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file, save_file

from elbert import Classifier, TrainSettings, train
from elbert.data import Labels, TextDataset
from elbert.errors import ModelError, PolicyWarning, UsageError
from elbert.evaluation.evaluate import evaluate
from elbert.exits import make, replay
from elbert.training import start_model
from elbert.training.teachers import load_teacher

WORDS = {"good": "a fine and moving film", "bad": "a dull and empty film", "odd": "a strange but lovely film"}


def reviews(seed: int, count: int) -> TextDataset:
    """Reviews whose words tell their class."""
    random = np.random.default_rng(seed)
    names = sorted(WORDS)
    rows = random.integers(0, 3, count).tolist()
    texts = [f"{WORDS[names[row]]} number {seed * 10_000 + random.integers(0, 9_999)}" for row in rows]
    return TextDataset(texts, rows, Labels("single_label_classification", tuple(names)), "reviews")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model trained for one epoch on texts whose words tell everything."""
    data, settings = reviews(0, 120), TrainSettings(epochs=1, max_length=32)
    model, tokenizer = start_model("random-tiny", data, settings)
    out = tmp_path_factory.mktemp("words") / "model"
    train(model, tokenizer, data, None, settings, out, progress=False)
    return out


def test_training_leaves_a_layer_0_that_is_off_until_somebody_asks_for_it(folder: Path) -> None:
    classifier = Classifier.from_pretrained(folder)
    assert classifier.words is not None
    texts = reviews(1, 20).texts
    assert min(each.exit_layer for each in classifier.predict(texts)) >= 1
    early = classifier.predict(texts, policy={"name": "full", "words": 0.5})
    assert {each.exit_layer for each in early} == {0}
    assert [each.label for each in early] == [sorted(WORDS)[label] for label in reviews(1, 20).labels or []]


def test_a_policy_with_layer_0_answers_so_from_the_saved_folder(folder: Path, tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(folder)
    classifier.keep("by-words", make("full", words=0.9))
    classifier.save_policies(tmp_path / "kept")
    again = Classifier.from_pretrained(tmp_path / "kept")
    test = reviews(3, 60)
    assert {each.exit_layer for each in again.predict(test.texts)} == {0}
    result = evaluate(again, test, repeats=1)
    assert result.layer_0 == 60
    assert result.score == 1.0
    assert sum(result.exit_histogram) == 0
    assert result.layer_0_cost is not None
    assert result.mean_exit_layer == pytest.approx(result.layer_0_cost)
    assert json.loads(json.dumps(result.to_dict()))["layer_0"] == 60
    again.save_pretrained(tmp_path / "anew")
    anew = Classifier.from_pretrained(tmp_path / "anew")
    assert anew.predict(test.texts) == again.predict(test.texts)
    trace = anew.trace(test.texts[0])
    assert (trace.label, trace.exit_layer) == (anew.predict(test.texts[0]).label, 0)
    assert trace.layer_0 is not None
    assert trace.reason.startswith("layer 0: leaves: ")
    run, weight = trace.layer_0.grams[0]
    assert weight > 0, "what weighs most speaks for the answer"
    assert run in WORDS[str(trace.label)] or "number" in run
    assert trace.to_dict()["layer_0"]["grams"][0] == [run, pytest.approx(weight, abs=1e-6)]
    assert anew.trace(test.texts[0], policy="full").layer_0 is None


def test_layer_0_can_be_left_out_and_values_have_none(tmp_path: Path) -> None:
    data, settings = reviews(0, 60), TrainSettings(epochs=1, max_length=32, words=False)
    model, tokenizer = start_model("random-tiny", data, settings)
    train(model, tokenizer, data, None, settings, tmp_path / "without", progress=False)
    assert Classifier.from_pretrained(tmp_path / "without").words is None
    values: Any = [float(row) for row in range(60)]
    data = TextDataset(data.texts, values, Labels("regression", ()), "values")
    model, tokenizer = start_model("random-tiny", data, TrainSettings(epochs=1))
    train(model, tokenizer, data, None, TrainSettings(epochs=1, max_length=32), tmp_path / "values", progress=False)
    assert Classifier.from_pretrained(tmp_path / "values").words is None


@pytest.mark.parametrize("damage", ["no tensors", "other classes", "no safetensors"])
def test_a_damaged_layer_0_is_one_line_that_names_the_file(folder: Path, tmp_path: Path, damage: str) -> None:
    Classifier.from_pretrained(folder).save_policies(tmp_path / "model")
    path = tmp_path / "model" / "words.safetensors"
    tensors = load_file(path)
    if damage == "no safetensors":
        path.write_bytes(b"nothing")
    elif damage == "no tensors":
        save_file({"weight": tensors["weight"]}, path)
    else:
        narrow = {
            name: values[..., :2].copy() if name in ("weight", "bias") else values for name, values in tensors.items()
        }
        save_file(narrow, path)
    with pytest.raises(ModelError, match=r"words\.safetensors") as refused:
        Classifier.from_pretrained(tmp_path / "model")
    assert "\n" not in str(refused.value)


def test_a_policy_that_asks_a_layer_0_which_is_not_there_is_warned_of(folder: Path, tmp_path: Path) -> None:
    classifier = Classifier.from_pretrained(folder)
    classifier.keep("by-words", make("full", words=0.9))
    classifier.save_policies(tmp_path / "model")
    (tmp_path / "model" / "words.safetensors").unlink()
    with pytest.warns(PolicyWarning, match=r"words is 0\.9, and the model has no layer 0 \(words\.safetensors\)"):
        Classifier.from_pretrained(tmp_path / "model")


@pytest.fixture(scope="module")
def summed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with layer 0 added to every exit."""
    data, settings = reviews(0, 120), TrainSettings(epochs=1, max_length=32, words_at_exits=True)
    model, tokenizer = start_model("random-tiny", data, settings)
    out = tmp_path_factory.mktemp("words") / "summed"
    train(model, tokenizer, data, None, settings, out, progress=False)
    return out


def test_training_tells_what_the_exits_score_with_layer_0_and_without(summed: Path, folder: Path) -> None:
    told = json.loads((summed / "elbert.json").read_text())["training"]
    assert min(told["layer_scores"]) == 1.0
    assert max(told["encoder_scores"]) < 1.0
    card = (summed / "README.md").read_text()
    assert f"Other tools do not read it: what they compute scores {told['encoder_scores'][-1]:.4f}" in card
    assert ModelCard(card).data.eval_results[0].metric_value == pytest.approx(told["encoder_scores"][-1])
    assert json.loads((folder / "elbert.json").read_text())["training"]["encoder_scores"] is None
    assert "Other tools" not in (folder / "README.md").read_text()


def test_a_model_whose_exits_add_layer_0_does_not_answer_without_it(summed: Path, tmp_path: Path) -> None:
    shutil.copytree(summed, tmp_path / "model")
    (tmp_path / "model" / "words.safetensors").unlink()
    with pytest.raises(ModelError, match=r"words\.safetensors is missing, and the model's exits add what it says"):
        Classifier.from_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=r"words\.safetensors is missing"):
        load_teacher(str(tmp_path / "model"), Classifier.from_pretrained(summed).labels, 32)


def test_what_is_added_to_every_exit_is_counted_at_its_cost(summed: Path) -> None:
    result = evaluate(Classifier.from_pretrained(summed), reviews(4, 40), policy=make("fixed", layer=2), repeats=1)
    assert result.layer_0 == 0
    assert result.layer_0_cost is not None
    assert result.mean_exit_layer == pytest.approx(2 + result.layer_0_cost)
    assert result.layer_speedup == pytest.approx(
        (result.layers + result.layer_0_cost) / result.mean_exit_layer, rel=0.5
    )


def test_added_to_every_exit_layer_0_is_part_of_full_depth(summed: Path) -> None:
    classifier, texts = Classifier.from_pretrained(summed), reviews(4, 40).texts
    words = classifier.words
    assert words is not None
    assert words.at_exits > 0.1, "one epoch teaches a tiny model nothing, its words tell everything"
    together = classifier.record(texts)
    classifier.engine.words = dataclasses.replace(words, at_exits=0.0)
    alone = classifier.record(texts)
    said = words.added([list(each.ids) for each in classifier.arrivals(texts, {})])
    assert said is not None
    np.testing.assert_allclose(together.logits.numpy(), alone.logits.numpy() + said[:, None], atol=1e-5)
    right = np.array(reviews(4, 40).labels)
    assert (together.probs[:, -1].argmax(-1).numpy() == right).all()
    assert not (alone.probs[:, -1].argmax(-1).numpy() == right).all()


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_rows_keep_what_is_added_to_them_whoever_leaves(summed: Path, batch_size: int) -> None:
    classifier = Classifier.from_pretrained(summed)
    assert classifier.words is not None
    classifier.engine.words = dataclasses.replace(classifier.words, at_exits=0.5)  # so little that exits still differ
    texts = [f"{text} {'and so on ' * (row % 4)}" for row, text in enumerate(reviews(5, 40).texts)]
    recorded = classifier.record(texts)
    for name in ("max_prob", "elbert"):
        policies = make(name).grid(classifier.num_layers, 3)
        replayed = {policy: replay(policy, recorded).tolist() for policy in policies}
        policy = max(replayed, key=lambda each: len(set(replayed[each])))
        assert len(set(replayed[policy])) > 1, "some have to leave before others"
        found = classifier.predict(texts, policy=policy, batch_size=batch_size)
        assert [each.exit_layer for each in found] == replayed[policy]
        labels = recorded.at(np.array(replayed[policy])).argmax(-1).tolist()
        assert [each.label for each in found] == [classifier.labels.names[label] for label in labels]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TextDataset]:
    """A tiny model of texts whose telling words stand behind what the encoder reads, and such texts."""
    filler = "and so on and on it went that day " * 3
    data = dataclasses.replace(reviews(0, 120), texts=[filler + text for text in reviews(0, 120).texts])
    settings = TrainSettings(epochs=1, max_length=16)
    model, tokenizer = start_model("random-tiny", data, settings)
    out = tmp_path_factory.mktemp("words") / "late"
    train(model, tokenizer, data, None, settings, out, progress=False)
    return out, dataclasses.replace(reviews(4, 40), texts=[filler + text for text in reviews(4, 40).texts])


def test_layer_0_reads_what_the_encoder_does_not_and_helps_it_unasked(late: tuple[Path, TextDataset]) -> None:
    classifier, test = Classifier.from_pretrained(late[0]), late[1]
    words = classifier.words
    assert words is not None
    assert words.reach > classifier.max_length
    assert words.at_exits > 0, "many texts are cut, and the dev split shows what that loses"
    assert evaluate(classifier, test, policy=make("full"), repeats=1).score == 1.0
    assert {each.exit_layer for each in classifier.predict(test.texts, policy={"name": "full", "words": 0.5})} == {0}
    classifier.engine.words = dataclasses.replace(words, reach=0)
    assert evaluate(classifier, test, policy=make("full"), repeats=1).score < 0.7, "what it read made the difference"


def test_where_no_text_is_cut_or_nobody_wants_it_the_exits_are_the_encoders_alone(
    folder: Path, late: tuple[Path, TextDataset], tmp_path: Path
) -> None:
    short = Classifier.from_pretrained(folder).words
    assert short is not None
    assert short.at_exits == 0
    data, settings = late[1], TrainSettings(epochs=1, max_length=16, words_at_exits=False)
    model, tokenizer = start_model("random-tiny", data, settings)
    train(model, tokenizer, data, None, settings, tmp_path / "unheard", progress=False)
    unheard = Classifier.from_pretrained(tmp_path / "unheard").words
    assert unheard is not None
    assert unheard.at_exits == 0


def test_as_a_teacher_such_a_model_says_what_it_answers(late: tuple[Path, TextDataset]) -> None:
    test = late[1]
    assert test.label_space is not None
    space = dataclasses.replace(test.label_space, names=test.label_space.names[::-1])
    teacher = load_teacher(str(late[0]), space, 64)
    said = teacher.logits(test.texts, "float32").numpy()[:, ::-1]
    long = Classifier.from_pretrained(late[0])
    long.max_length = teacher.max_length
    np.testing.assert_allclose(said, long.record(test.texts).logits[:, -1].numpy(), atol=1e-5)
    assert dataclasses.replace(teacher, words=None).digest() != teacher.digest()


def test_layer_0_fitted_later_reads_as_far(late: tuple[Path, TextDataset], tmp_path: Path) -> None:
    classifier, test = Classifier.from_pretrained(late[0]), late[1]
    classifier.engine.words = None
    classifier.fit_words(test)
    predictions = classifier.predict(test.texts, policy={"name": "full", "words": 0.5})
    assert [each.label for each in predictions] == [sorted(WORDS)[label] for label in test.labels or []]
    classifier.save_pretrained(tmp_path / "kept")
    again = Classifier.from_pretrained(tmp_path / "kept")
    assert again.predict(test.texts, policy={"name": "full", "words": 0.5}) == predictions


def test_what_is_added_needs_something_to_add() -> None:
    with pytest.raises(UsageError, match="words_at_exits is true and words false"):
        TrainSettings(words=False, words_at_exits=True)
