"""One run from texts to a model folder: what it writes, that it learns, and that a seed fixes it."""

from __future__ import annotations

import dataclasses
import json
import warnings

import pytest
import torch
from transformers import pipeline

from elbert import Classifier
from elbert.data import Labels, TextDataset
from elbert.errors import DataError, DataWarning, ElbertError, MissingExtraError, UsageError
from elbert.modeling import load_model
from elbert.training import prepare, schemes
from elbert.training import run as run_module
from tests.conftest import FAMILIES
from tests.training.conftest import make_dataset, read_log, same_weights, weights


def test_a_run_learns_and_reports_every_layer(fine_tune, settings, tmp_path):
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, epochs=6))
    assert summary.out == tmp_path / "model"
    assert (summary.metric, len(summary.layer_scores), summary.train_rows, summary.dev_rows) == ("accuracy", 3, 54, 6)
    assert summary.layer_scores[-1] == 1.0
    assert summary.steps == 6 * 7
    assert summary.best_step <= summary.steps
    json.dumps(summary.to_dict())


def test_the_folder_is_a_plain_checkpoint_with_elbert_json_beside(fine_tune, tmp_path):
    summary = fine_tune(tmp_path / "model", model_name="tiny")
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "elbert.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_log.jsonl",
        "words.safetensors",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (answer,) = pipeline("text-classification", model=str(tmp_path / "model"))("a warm story")
    assert answer["label"] in {"good", "bad"}
    _, _, elbert = load_model(tmp_path / "model")
    assert elbert["default_policy"] in elbert["policies"]
    assert elbert["max_length"] == 32
    assert elbert["training"]["model"] == "tiny"
    assert elbert["training"]["layer_scores"] == list(summary.layer_scores)


def test_a_length_that_the_model_cannot_read_is_saved_nowhere(fine_tune, settings, tmp_path):
    fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, max_length=900, epochs=1))
    _, _, elbert = load_model(tmp_path / "model")
    assert (elbert["max_length"], elbert["training"]["settings"]["max_length"]) == (64, 64)


def test_the_scheme_is_saved_with_what_it_learned(fine_tune, tmp_path):
    summary = fine_tune(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "elbert.json").read_text())["scheme"]
    assert schemes.from_dict(saved).weights().tolist() == pytest.approx(list(summary.scheme_weights))
    fresh = schemes.make("elbert", 3).weights().tolist()
    assert max(abs(now - then) for now, then in zip(summary.scheme_weights, fresh, strict=True)) > 1e-4


def test_the_log_has_every_step_with_weights_and_losses(fine_tune, tmp_path):
    summary = fine_tune(tmp_path / "model")
    entries = read_log(tmp_path / "model" / "training_log.jsonl")
    steps = [entry for entry in entries if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, summary.steps + 1))
    first = steps[0]
    assert first["weights"] == pytest.approx(schemes.make("elbert", 3).weights().tolist(), abs=1e-4)
    dot = sum(weight * loss for weight, loss in zip(first["weights"], first["layer_losses"], strict=True))
    assert first["loss"] == pytest.approx(dot, rel=1e-3)
    assert [len(entry["scores"]) for entry in entries if "scores" in entry] == [3, 3]


@pytest.mark.parametrize("scheme", [name for name in schemes.names() if not schemes.get(name).staged])
def test_every_scheme_of_weights_trains(fine_tune, settings, tmp_path, scheme):
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, scheme=scheme, epochs=1))
    early, last = summary.scheme_weights[:-1], summary.scheme_weights[-1]
    assert last > 0
    assert all(weight == 0 if scheme == "last" else weight > 0 for weight in early)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains(fine_tune, settings, tmp_path, family):
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, epochs=1), family=family)
    assert len(summary.layer_scores) == 3
    load_model(tmp_path / "model")


def test_extra_exit_heads_are_trained_and_saved(fine_tune, settings, tmp_path):
    fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, epochs=1), heads="full")
    assert (tmp_path / "model" / "exit_heads.safetensors").is_file()
    assert load_model(tmp_path / "model")[0].heads == "full"


@pytest.mark.parametrize(
    ("problem_type", "metric"), [("multi_label_classification", "f1_micro"), ("regression", "pearson")]
)
def test_other_problems_train_with_their_own_metric(fine_tune, tiny_texts, tmp_path, problem_type, metric):
    summary = fine_tune(tmp_path / "model", dataset=make_dataset(tiny_texts, 40, problem_type))
    assert summary.metric == metric
    assert load_model(tmp_path / "model")[0].problem_type == problem_type


def test_pairs_train_with_token_types(fine_tune, tiny_texts, tmp_path):
    pairs = [(tiny_texts[row % 8], tiny_texts[(row + row % 2) % 8]) for row in range(40)]
    same = TextDataset(pairs, [row % 2 for row in range(40)], Labels("single_label_classification", ("yes", "no")))
    assert fine_tune(tmp_path / "model", dataset=same).steps == 10


def test_a_model_knows_whether_it_learnt_from_pairs_and_tells_whoever_gives_it_the_other_kind(
    fine_tune, settings, tiny_texts, tmp_path
):
    short = dataclasses.replace(settings, epochs=1)
    pair, single = ("a warm film", "a dull film"), "a warm film"
    pairs = [(text, "a film") for text in make_dataset(tiny_texts).texts]
    singles = make_dataset(tiny_texts).texts
    for name, texts, own, other, told in [
        ("single", singles, single, pair, "learnt from single texts and is given pairs of texts"),
        ("pairs", pairs, pair, single, "learnt from pairs of texts and is given single texts"),
    ]:
        fine_tune(tmp_path / name, dataset=dataclasses.replace(make_dataset(tiny_texts), texts=texts), settings=short)
        classifier = Classifier.from_pretrained(tmp_path / name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classifier.predict([own, own])
        for ask, given in ((classifier.predict, other), (classifier.trace, other), (classifier.record, [other])):
            with pytest.warns(DataWarning, match=f"{name} {told}, so its answers may mean nothing") as warned:
                ask(given)
            assert len(warned) == 1
        with pytest.warns(DataWarning) as warned:
            assert len(classifier.predict([own, other, own, other])) == 4
        assert len(warned) == 1


def test_single_texts_to_learn_from_and_pairs_to_score_on_are_refused(fine_tune, reviews, tmp_path):
    pairs = dataclasses.replace(reviews, texts=[(text, text) for text in reviews.texts])
    with pytest.raises(UsageError, match="mix single texts and pairs"):
        fine_tune(tmp_path / "model", evaluation=pairs)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(fine_tune, settings, tmp_path):
    for name in ("one", "two"):
        torch.rand(7)  # whatever happened to the generators before a run must not matter
        fine_tune(tmp_path / name)
    fine_tune(tmp_path / "three", settings=dataclasses.replace(settings, seed=1))
    assert same_weights(tmp_path / "one", tmp_path / "two")
    assert not same_weights(tmp_path / "one", tmp_path / "three")


def test_bfloat16_trains_on_this_machine_and_keeps_float32_weights(fine_tune, settings, tmp_path):
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, dtype="bfloat16"))
    assert summary.dtype == "bfloat16"
    assert {tensor.dtype for tensor in weights(tmp_path / "model").values()} == {torch.float32}


def test_a_given_dev_set_is_what_is_scored_on(fine_tune, reviews, tmp_path):
    summary = fine_tune(tmp_path / "model", evaluation=reviews.select(range(20)))
    assert (summary.train_rows, summary.dev_rows) == (60, 20)


def test_a_dev_set_that_numbers_its_classes_otherwise_is_scored_by_their_names(fine_tune, reviews, tmp_path):
    names = Labels(reviews.label_space.problem_type, reviews.label_space.names[::-1])
    part = reviews.select(range(20))
    turned = TextDataset(part.texts, [1 - label for label in part.labels], names, "turned")
    straight = fine_tune(tmp_path / "a", evaluation=part)
    assert fine_tune(tmp_path / "b", evaluation=turned).layer_scores == straight.layer_scores
    strange = TextDataset(part.texts, part.labels, Labels(names.problem_type, ("good", "ugly")), "strange")
    with pytest.raises(DataError, match="strange: label 'ugly' was never seen in training"):
        fine_tune(tmp_path / "c", evaluation=strange)


def scripted(monkeypatch, scores, error=0.0):
    """Make the dev scores of the epochs, each of every layer, and their standard error what a test says."""
    remaining = iter(scores)

    def layer_scores(evaluated, **_):
        layers = next(remaining)
        named = {f"layer_{layer}": value for layer, value in enumerate(layers, start=1)}
        return {**named, "final": layers[-1], "mean-exit": sum(layers) / len(layers), "error": error}

    monkeypatch.setattr("elbert.training.trainer.layer_scores", layer_scores)
    monkeypatch.setattr("elbert.training.words._MANY_CUT", 2.0)  # nothing is added to the exits, and scored anew


@pytest.mark.parametrize(("by", "best_epoch"), [("final", 1), ("mean-exit", 2)])
def test_the_best_epoch_is_kept_by_the_metric_asked_for(fine_tune, settings, tmp_path, monkeypatch, by, best_epoch):
    scripted(monkeypatch, [(0.1, 0.1, 0.9), (0.8, 0.8, 0.8), (0.2, 0.2, 0.2)])
    wanted = dataclasses.replace(settings, epochs=3, metric_for_best=by)
    summary = fine_tune(tmp_path / "model", settings=wanted)
    assert summary.best_step == 7 * best_epoch
    assert summary.layer_scores[-1] == (0.9, 0.8)[best_epoch - 1]


def test_the_kept_weights_are_those_of_the_best_epoch(fine_tune, settings, tmp_path, monkeypatch):
    saved = []
    take_best = run_module._take_best

    def spy(trainer, folder):
        best = folder.checkpoints / f"checkpoint-{trainer.state.best_global_step}"
        saved.append({name.removeprefix("model.backbone."): value for name, value in weights(best).items()})
        take_best(trainer, folder)

    monkeypatch.setattr(run_module, "_take_best", spy)
    scripted(monkeypatch, [(0.9,) * 3, (0.5,) * 3])
    fine_tune(tmp_path / "model")
    kept = weights(tmp_path / "model")
    assert all(torch.equal(saved[0][name], value) for name, value in kept.items())


def test_early_stopping_ends_a_run_that_stands_still(fine_tune, settings, tmp_path, monkeypatch):
    scripted(monkeypatch, [(score,) * 3 for score in (0.5, 0.6, 0.6, 0.4, 0.9)])
    wanted = dataclasses.replace(settings, epochs=5, early_stopping=2)
    summary = fine_tune(tmp_path / "model", settings=wanted)
    assert (summary.epochs, summary.best_step) == (4.0, 21)  # a tie is no new best to wait for, but is kept


def test_of_epochs_with_the_same_score_the_last_is_kept(fine_tune, settings, tmp_path, monkeypatch):
    scripted(monkeypatch, [(score,) * 3 for score in (0.99, 0.99, 0.98)])
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, epochs=3))
    assert summary.best_step == 14


@pytest.mark.parametrize(
    ("scores", "kept"), [((0.92, 0.80, 0.91), 3), ((0.92, 0.89, 0.86), 2), ((0.95, 0.80, 0.91), 1)]
)
def test_of_epochs_within_a_standard_error_of_the_highest_the_last_is_kept(
    fine_tune, settings, tmp_path, monkeypatch, scores, kept
):
    scripted(monkeypatch, [(score,) * 3 for score in scores], error=0.031)
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, epochs=3))
    assert (summary.best_step, summary.layer_scores[-1]) == (7 * kept, scores[kept - 1])


def test_the_best_may_lie_within_an_epoch(fine_tune, settings, tmp_path, monkeypatch):
    scripted(monkeypatch, [(score,) * 3 for score in (0.1, 0.9, 0.3, 0.4, 0.5, 0.6)])
    summary = fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, eval_steps=3))
    log = read_log(tmp_path / "model" / "training_log.jsonl")
    assert [entry["step"] for entry in log if "scores" in entry] == [3, 6, 7, 9, 12, 14]
    assert (summary.best_step, summary.layer_scores[-1], summary.steps) == (6, 0.9, 14)


def test_patience_is_counted_in_evaluations(fine_tune, settings, tmp_path, monkeypatch):
    scripted(monkeypatch, [(score,) * 3 for score in (0.5, 0.4, 0.3, 0.9)])
    wanted = dataclasses.replace(settings, eval_steps=3, early_stopping=2)
    summary = fine_tune(tmp_path / "model", settings=wanted)
    assert (summary.steps, summary.best_step) == (7, 3)


def test_accumulated_batches_make_the_step_of_one_large_batch(fine_tune, reviews, settings, tmp_path):
    eight = dataclasses.replace(settings, scheme="equal", classifier_dropout=0.0)
    halves = dataclasses.replace(eight, batch_size=4, gradient_accumulation_steps=2)
    logs = []
    for name, each in (("whole", eight), ("halves", halves)):
        fine_tune(tmp_path / name, dataset=reviews.select(range(8)), evaluation=reviews, settings=each)
        logs.append([entry for entry in read_log(tmp_path / name / "training_log.jsonl") if "loss" in entry])
    assert [[entry["step"] for entry in log] for log in logs] == [[1, 2]] * 2
    for whole, half in zip(*logs, strict=True):
        assert half["loss"] == pytest.approx(whole["loss"], rel=1e-4)
        assert half["layer_losses"] == pytest.approx(whole["layer_losses"], rel=1e-4)


def test_balanced_classes_change_what_is_learnt_and_are_recorded(fine_tune, reviews, settings, tmp_path):
    rare = dataclasses.replace(reviews, labels=[int(row % 6 == 1) for row in range(60)])
    balanced = dataclasses.replace(settings, class_weight="balanced")
    for name, each in (("plain", settings), ("balanced", balanced)):
        fine_tune(tmp_path / name, dataset=rare, settings=each)
    saved = json.loads((tmp_path / "balanced" / "elbert.json").read_text())
    assert saved["training"]["settings"]["class_weight"] == "balanced"
    assert not same_weights(tmp_path / "plain", tmp_path / "balanced")


def test_a_rare_class_is_scored_by_macro_f1_unless_asked_otherwise(fine_tune, reviews, tmp_path):
    rare = dataclasses.replace(reviews, labels=[int(row % 20 == 1) for row in range(60)])
    assert fine_tune(tmp_path / "model", dataset=rare).metric == "f1_macro"


def test_one_class_only_is_refused_before_anything_is_written(fine_tune, reviews, tmp_path):
    with pytest.raises(DataError, match="at least two different labels"):
        fine_tune(tmp_path / "model", dataset=reviews.select(range(0, 60, 2)))
    assert list(tmp_path.iterdir()) == []


def test_data_for_another_model_is_refused(fine_tune, reviews, tiny_texts, tmp_path):
    three = Labels("single_label_classification", ("a", "b", "c"))
    other = TextDataset(list(tiny_texts), [0, 1, 2, 0, 1, 2, 0, 1], three, "other")
    with pytest.raises(DataError, match="other: label 'a' was never seen in training; known: 'good', 'bad'"):
        fine_tune(tmp_path / "model", evaluation=other)
    assert list(tmp_path.iterdir()) == []


def test_a_metric_that_does_not_fit_leaves_nothing_behind(fine_tune, settings, tmp_path):
    with pytest.raises(UsageError, match="does not fit"):
        fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, metric="pearson"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_says_so(fine_tune, settings, tmp_path):
    with pytest.raises(ElbertError, match=r"loss is (nan|inf) at step \d+: .* lower --learning-rate"):
        fine_tune(tmp_path / "model", settings=dataclasses.replace(settings, learning_rate=1e30))
    assert not (tmp_path / "model").exists()


def test_training_is_quiet(fine_tune, tmp_path, capfd):
    fine_tune(tmp_path / "model")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


@pytest.mark.parametrize(("module", "package"), [("accelerate", "accelerate"), ("sklearn", "scikit-learn")])
def test_a_library_that_only_the_end_needs_is_missed_at_the_beginning(
    fine_tune, tmp_path, monkeypatch, module, package
):
    find = prepare.find_spec
    monkeypatch.setattr(prepare, "find_spec", lambda name: None if name == module else find(name))
    monkeypatch.setattr(run_module, "encode", lambda *_, **__: pytest.fail("texts were tokenised first"))
    with pytest.raises(MissingExtraError, match=rf"^{package} is needed .*pip install 'elbert\[train\]'"):
        fine_tune(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
