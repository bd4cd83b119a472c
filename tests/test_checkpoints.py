"""What comes inside the package works as it stands: small, whole, readable by everyone, and honest about itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModel, pipeline

from elbert import Classifier
from elbert.modeling.files.sources import CHECKPOINTS

REVIEWS = {
    "a wonderful film, warm and funny from beginning to end": "positive",
    "one of the best performances of the year": "positive",
    "a dull, lifeless mess that wastes a good cast": "negative",
    "i wanted my two hours back": "negative",
}

folders = pytest.mark.parametrize("name", sorted(path.name for path in CHECKPOINTS.iterdir() if path.is_dir()))


# Bytes of the weights; all of them together stay below what a wheel may be.
MOST = {"small": 46_000_000}
ALL = 70_000_000


def test_all_checkpoints_together_fit_a_wheel() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*.safetensors")) <= ALL


@folders
def test_a_checkpoint_is_small_has_a_card_and_knows_no_machine(name: str) -> None:
    folder = CHECKPOINTS / name
    assert (folder / "model.safetensors").stat().st_size <= MOST.get(name, 12_000_000)
    assert "Apache-2.0" in (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.json"):
        if path.name != "tokenizer.json":
            assert not any(root in path.read_text(encoding="utf-8") for root in ("/work", "/root", "/home", "/tmp"))


def test_mini_is_an_encoder_of_twelve_layers() -> None:
    model = AutoModel.from_pretrained(CHECKPOINTS / "mini")
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (12, 384)


def test_small_is_an_encoder_of_six_distinct_layers() -> None:
    model = AutoModel.from_pretrained(CHECKPOINTS / "small")
    assert (model.config.num_hidden_layers, model.config.num_hidden_groups, model.config.hidden_size) == (6, 6, 384)


def test_mini_sentiment_tells_good_from_bad_and_transformers_agrees() -> None:
    classifier = Classifier.from_pretrained("mini-sentiment")
    plain = pipeline("text-classification", model=str(CHECKPOINTS / "mini-sentiment"))
    for text, label in REVIEWS.items():
        prediction = classifier.predict(text, policy="full")
        assert prediction.label == label
        assert plain(text)[0]["score"] == pytest.approx(prediction.score, abs=1e-4)


def test_mini_sentiments_policies_are_promises_with_evidence() -> None:
    saved = json.loads((Path(CHECKPOINTS) / "mini-sentiment" / "elbert.json").read_text(encoding="utf-8"))
    classifier = Classifier.from_pretrained("mini-sentiment")
    assert saved["default_policy"] in saved["calibration"]
    for name in ("exact", "drop-0.5", "drop-1", "drop-2"):
        assert saved["calibration"][name]["dtype"] == "float32"
        assert classifier.policies[name].to_dict() == saved["policies"][name]
