"""The object a user holds: one in, one out; pairs, long texts, three problem types, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import pipeline

from elbert import Classifier, Prediction
from elbert.errors import ModelError, UsageError
from elbert.exits import make, replay

Build = Callable[..., Classifier]


@pytest.fixture(scope="session")
def build(tiny_model: Callable[..., Any], tiny_tokenizer: Any) -> Build:
    """`build(family="albert", elbert=None, **config)`: a classifier over random weights."""

    def make_classifier(family: str = "albert", elbert: dict[str, Any] | None = None, **config: Any) -> Classifier:
        names = config.pop("names", ["bad", "good"])
        config.setdefault("problem_type", "single_label_classification")
        model = tiny_model(family, num_labels=len(names), id2label=dict(enumerate(names)), **config)
        return Classifier(model, tiny_tokenizer, elbert)

    return make_classifier


def test_one_text_gives_one_prediction_and_a_list_gives_a_list_in_order(build: Build, tiny_texts: list[str]) -> None:
    classifier = build()
    alone = [classifier.predict(text) for text in tiny_texts]
    together = classifier.predict(tiny_texts, batch_size=3)
    assert all(isinstance(prediction, Prediction) for prediction in alone)
    assert [p.label for p in together] == [p.label for p in alone]  # type: ignore[union-attr]
    assert [p.exit_layer for p in together] == [p.exit_layer for p in alone]  # type: ignore[union-attr]
    assert classifier.predict([]) == []


def test_a_pair_is_a_tuple_and_a_list_of_two_strings_is_two_texts(build: Build) -> None:
    classifier = build()
    assert isinstance(classifier.predict(("a warm film", "a dull film")), Prediction)
    assert len(classifier.predict(["a warm film", "a dull film"])) == 2  # type: ignore[arg-type]


def test_the_second_half_of_a_pair_changes_the_answer(build: Build) -> None:
    classifier = build()
    recorded = classifier.record([("a warm film", "a dull film"), ("a warm film", "great acting"), "a warm film"])
    assert not torch.allclose(recorded.logits[0], recorded.logits[1])
    assert not torch.allclose(recorded.logits[0], recorded.logits[2])


def test_recorded_lengths_stand_beside_their_texts_where_pairs_and_single_texts_are_mixed(build: Build) -> None:
    classifier = build()
    texts = [("a warm film", "a dull film"), "a", ("great", "acting"), "a warm film, a dull film and great acting"]
    alone = [int(classifier.record([text]).lengths[0]) for text in texts]
    assert len(set(alone)) > 1
    assert classifier.record(texts).lengths.tolist() == alone


@pytest.mark.parametrize("family", ["albert", "bert", "distilbert"])
def test_full_depth_equals_the_transformers_pipeline(
    build: Build, tiny_texts: list[str], tmp_path: Path, family: str
) -> None:
    classifier = build(family)
    classifier.save_pretrained(tmp_path / "model")
    peer = pipeline("text-classification", model=str(tmp_path / "model"), device="cpu")
    for ours, theirs in zip(classifier.predict(tiny_texts, policy="full"), peer(tiny_texts), strict=True):  # type: ignore[arg-type]
        assert ours.label == theirs["label"]
        assert ours.score == pytest.approx(theirs["score"], abs=1e-5)
        assert ours.exit_layer == ours.layers == classifier.num_layers


def test_predict_leaves_where_replay_over_the_recording_says(build: Build, tiny_texts: list[str]) -> None:
    classifier = build()
    policy = make("elbert", threshold=0.6, window=2)
    expected = replay(policy, classifier.record(tiny_texts)).tolist()
    assert [p.exit_layer for p in classifier.stream(tiny_texts, policy=policy)] == expected
    assert len(set(expected)) > 1, "the fixture must let texts leave at different layers"


def test_texts_of_no_and_of_100_000_characters_are_answered_and_the_cut_is_reported(build: Build) -> None:
    classifier = build()
    empty, long, cut = classifier.predict(["", "a" * 100_000, "a warm film " * 8_000])  # type: ignore[misc]
    assert not empty.truncated
    assert not long.truncated  # one unknown word
    assert cut.truncated


@pytest.mark.parametrize("bad", [None, 7, ("a", "b", "c"), ("a", None), ["a"], b"bytes"])
def test_what_is_no_text_is_refused_with_its_place(build: Build, bad: Any) -> None:
    with pytest.raises(UsageError, match="text 2 is"):
        build().predict(["fine", bad])


def test_a_table_given_for_its_texts_is_refused_and_not_answered_column_by_column(build: Build) -> None:
    classifier, columns = build(), {"text": ["a good film"], "label": ["pos"]}
    frame = pytest.importorskip("pandas").DataFrame(columns)
    for table in (columns, frame, pytest.importorskip("datasets").Dataset.from_dict(columns)):
        for answer in (classifier.predict, classifier.record):
            with pytest.raises(UsageError, match=r"holds columns; give the texts alone, such as data\['text'\]"):
                answer(table)
        assert classifier.predict(table["text"]) == classifier.predict(columns["text"])


@pytest.mark.parametrize("bad", [None, 3])
def test_what_is_neither_a_text_nor_texts_is_refused_as_a_text_is(build: Build, bad: Any) -> None:
    classifier = build()
    for answer in (classifier.predict, classifier.record, lambda texts: list(classifier.stream(texts))):
        with pytest.raises(UsageError, match=rf"text 1 is {bad}; a text is a string or a tuple of two strings"):
            answer(bad)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8", None])
def test_a_batch_size_that_is_no_count_is_refused_for_one_text_as_for_many(build: Build, batch_size: Any) -> None:
    classifier = build()
    for texts in ("good", ["good"], []):
        with pytest.raises(UsageError, match=f"batch_size is {batch_size!r}; allowed: a whole number of 1 or more"):
            classifier.predict(texts, batch_size=batch_size)
    with pytest.raises(UsageError, match="batch_size is"):
        classifier.record(["good"], batch_size=batch_size)


@pytest.mark.parametrize("bad", ["caf\udce9", ("a film", "\ud83d")], ids=["text", "pair"])
def test_half_a_surrogate_pair_is_refused_with_its_place(build: Build, bad: Any) -> None:
    classifier = build()
    for answer in (classifier.predict, classifier.record, lambda texts: list(classifier.stream(texts))):
        with pytest.raises(UsageError, match=r"text 2 is .*: half a surrogate pair at position [03]\b.*UTF-8"):
            answer(["schön 🎬", bad])
    with pytest.raises(UsageError, match="text 1 is"):
        classifier.predict(bad)
    with pytest.raises(UsageError, match="text 1 is"):
        classifier.trace(bad)


def test_multi_label_gives_every_label_at_one_half_or_more(build: Build, tiny_texts: list[str]) -> None:
    names = ["joy", "anger", "fear", "love"]
    classifier = build(names=names, problem_type="multi_label_classification")
    outputs = classifier.record(tiny_texts)
    predictions = classifier.predict(tiny_texts, policy="full")
    for prediction, probs in zip(predictions, outputs.probs[:, -1].tolist(), strict=True):  # type: ignore[arg-type]
        assert prediction.label == tuple(name for name, p in zip(names, probs, strict=True) if p >= 0.5)
        assert len(prediction.score) == len(prediction.label)


def test_regression_gives_the_value_and_no_score(build: Build, tiny_texts: list[str]) -> None:
    classifier = build(names=["score"], problem_type="regression")
    expected = classifier.record(tiny_texts).logits[:, -1, 0].tolist()
    predictions = classifier.predict(tiny_texts, policy="full")
    assert [p.label for p in predictions] == pytest.approx(expected, abs=1e-5)  # type: ignore[union-attr]
    assert all(p.score is None for p in predictions)  # type: ignore[union-attr]


def test_save_and_load_give_the_same_answers_and_policies(build: Build, tiny_texts: list[str], tmp_path: Path) -> None:
    saved = {"fast": make("elbert", threshold=0.9, window=None).to_dict()}
    classifier = build(elbert={"policies": saved, "default_policy": "fast", "max_length": 20})
    classifier.save_pretrained(tmp_path / "model")
    again = Classifier.from_pretrained(tmp_path / "model")
    assert again.policy == make("elbert", threshold=0.9, window=None)
    assert again.max_length == 20
    assert again.predict(tiny_texts) == classifier.predict(tiny_texts)


def test_trace_tells_every_layer_and_where_the_text_leaves(build: Build, tiny_texts: list[str]) -> None:
    classifier = build()
    policy = make("elbert", threshold=0.6, window=2)
    trace = classifier.trace(tiny_texts[0], policy=policy)
    assert trace.exit_layer == classifier.predict(tiny_texts[0], policy=policy).exit_layer  # type: ignore[union-attr]
    assert trace.probs.shape == (classifier.num_layers, 2)
    assert trace.normalised_entropy.shape == (classifier.num_layers,)
    assert len(trace.reasons) == classifier.num_layers
    assert trace.tokens[0] == "[CLS]"
    assert trace.labels == ("bad", "good")


def test_stream_reads_only_as_far_ahead_as_its_window(build: Build) -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "a warm and witty story"

    stream = build().stream(endless(), batch_size=2)
    for _ in range(600):
        next(stream)
    assert read <= 600 + 2 * 64 * 2 + 256


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"backend": "tensorrt"}, "tensorrt"),
        ({"dtype": "int3"}, "int3"),
        ({"dtype": "float16", "device": "cpu"}, "CUDA"),
        ({"device": "abacus"}, "abacus"),
        ({"device": "meta"}, "unknown device 'meta'; allowed: auto, cpu, cuda, cuda:N"),
        ({"policy": "elbrt"}, "did you mean 'elbert'"),
    ],
)
def test_unknown_options_are_refused_in_one_line(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, option: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        Classifier(tiny_model(), tiny_tokenizer, **option)
    assert "\n" not in str(caught.value)


def test_bfloat16_agrees_with_float32_on_nearly_every_label(
    tiny_model: Callable[..., Any], tiny_tokenizer: Any, tiny_texts: list[str]
) -> None:
    exact = Classifier(tiny_model(), tiny_tokenizer).record(tiny_texts).probs
    rounded = Classifier(tiny_model(), tiny_tokenizer, dtype="bfloat16").record(tiny_texts).probs
    assert (exact - rounded).abs().max() < 0.05


def test_push_to_hub_uploads_the_whole_model_folder(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Api:
        def create_repo(self, repo_id: str, **options: Any) -> Any:
            sent["repo"] = (repo_id, options)
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> str:
            sent["files"] = {path.name for path in folder_path.iterdir()}
            sent["message"] = commit_message
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert build().push_to_hub("me/model", private=True) == "https://hub/me/model"
    assert sent["repo"] == ("me/model", {"private": True, "exist_ok": True})
    assert {"config.json", "model.safetensors", "tokenizer.json", "elbert.json", "README.md"} <= sent["files"]


@pytest.mark.parametrize(
    ("elbert", "words"),
    [
        ({"policies": {"mine": {"name": "nosuch"}}}, "exit policy 'nosuch' is unknown"),
        ({"policies": {"mine": {"name": "elbert", "threshold": 7}}}, "threshold is 7"),
        ({"policies": {"mine": 3}}, "given: 3"),
        ({"default_policy": "nosuch"}, "unknown policy 'nosuch'"),
    ],
)
def test_a_saved_policy_that_cannot_be_used_is_the_models_fault(
    build: Build, elbert: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=f"elbert.json: .*{words}"):
        build(elbert=elbert)


def test_a_name_that_is_built_in_and_saved_is_offered_once(build: Build) -> None:
    classifier = build(elbert={"policies": {"elbert": make("elbert").to_dict()}})
    with pytest.raises(UsageError, match="allowed: elbert, entropy"):
        classifier.predict("good", policy="nosuch")


@pytest.mark.parametrize("batch_size", [10**6, 10**20])
def test_a_batch_larger_than_any_input_gives_the_same_answers(
    build: Build, tiny_texts: list[str], batch_size: int
) -> None:
    classifier = build()
    assert classifier.predict(tiny_texts, batch_size=batch_size) == classifier.predict(
        tiny_texts, batch_size=len(tiny_texts)
    )


def test_probabilities_come_in_rows_beside_the_classes(build, tiny_texts):
    classifier = build()
    probs = classifier.predict_proba(tiny_texts, policy="full")
    assert probs.shape == (len(tiny_texts), len(classifier.classes_))
    assert probs.sum(1) == pytest.approx(1)
    assert [classifier.classes_[row.argmax()] for row in probs] == [
        each.label for each in classifier.predict(tiny_texts, policy="full")
    ]
    assert classifier.predict_proba([]).shape == (0, len(classifier.classes_))
    with pytest.raises(UsageError, match="list"):
        classifier.predict_proba("one text")


def test_fit_takes_texts_and_labels_and_keeps_the_folder_where_asked(tiny_texts, tmp_path):
    texts = [f"{text} {row}" for row in range(5) for text in tiny_texts]
    labels = ["bad", "good"] * (len(texts) // 2)
    settings = {"model": "random-tiny", "epochs": 1, "batch_size": 8, "seed": 3, "dtype": "float32"}
    fitted = Classifier.fit(texts, labels, **settings)
    assert fitted.classes_ == ("bad", "good")
    assert {each.label for each in fitted.predict(texts)} <= {"bad", "good"}
    kept = Classifier.fit(texts, labels, out=tmp_path / "model", **settings)
    assert (
        Classifier.from_pretrained(tmp_path / "model").predict(texts[:8])
        == kept.predict(texts[:8])
        == fitted.predict(texts[:8])
    )
    with pytest.raises(UsageError, match="one label a text"):
        Classifier.fit(texts, labels[:-1])
    with pytest.raises(UsageError, match="epochs"):
        Classifier.fit(texts, labels, epoch=2)
