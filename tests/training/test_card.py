"""The model card says what a reader needs, and its front matter is what the hub takes."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard

from elbert.training.card import model_card
from tests.training.conftest import make_dataset


@pytest.fixture
def card(fine_tune, tmp_path):
    fine_tune(tmp_path / "model", model_name="/home/me/albert-tiny")
    return ModelCard.load(tmp_path / "model" / "README.md")


def test_front_matter_describes_the_task_and_its_score(card):
    data = yaml.safe_load(card.data.to_yaml())
    assert data["pipeline_tag"] == "text-classification"
    assert data["library_name"] == "transformers"
    assert {"elbert", "early-exit", "albert"} <= set(data["tags"])
    (result,) = data["model-index"][0]["results"]
    assert result["metrics"][0]["type"] == "accuracy"
    assert "datasets" not in data


def test_the_text_names_labels_scores_scheme_settings_and_how_to_load(card):
    for said in (
        "`good`, `bad`",
        "Classifier.from_pretrained",
        "AlbertForSequenceClassification",
        "| layer | accuracy | loss weight |",
        "| 3 |",
        "arXiv 2107.00175",
        "batch size 8",
        "54 texts",
        "`elbert`",
    ):
        assert said in card.text


def test_the_makers_own_folders_are_not_told(card):
    assert "/home/me" not in card.content
    assert "albert-tiny" in card.text


@pytest.mark.parametrize(
    ("problem_type", "said"),
    [("regression", "Regression: one number."), ("multi_label_classification", "Any of 2 labels: `good`, `long`.")],
)
def test_other_problems_are_described(fine_tune, tiny_texts, tmp_path, problem_type, said):
    fine_tune(tmp_path / "model", dataset=make_dataset(tiny_texts, 40, problem_type))
    assert said in (tmp_path / "model" / "README.md").read_text()


def test_a_hub_data_set_is_linked(tiny_model):
    part = {"name": "hub:stanfordnlp/sst2::validation", "rows": 4, "digest": ""}
    settings = dict.fromkeys(("epochs", "batch_size", "learning_rate", "warmup", "weight_decay", "dtype", "seed"), 1)
    elbert = {
        "scheme": {"name": "equal", "citation": "", "options": {}},
        "max_length": 8,
        "policies": {},
        "calibration": [{}],
        "training": {
            "model": None,
            "data": {"train": part, "evaluation": part},
            "settings": {**settings, "metric_for_best": "final"},
            "metric": "accuracy",
            "layer_scores": [0.1, 0.2, 0.3],
            "scheme_weights": [1.0, 1.0, 1.0],
            "train_rows": 4,
            "dev_rows": 4,
            "best_step": 1,
            "steps": 1,
        },
    }
    assert ModelCard(model_card(tiny_model().backbone, elbert)).data.datasets == ["stanfordnlp/sst2"]
