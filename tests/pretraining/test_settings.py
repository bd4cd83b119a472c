from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from elbert.errors import UsageError
from elbert.pretraining import PretrainSettings, read_settings
from elbert.pretraining.optimizer import rate_at

RECIPES = Path(__file__).parents[2] / "benchmarks"


def test_settings_survive_a_round_trip() -> None:
    settings = PretrainSettings(layers=6, hours=1.5)
    assert PretrainSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_with_a_teacher_distillation_alone_is_the_default() -> None:
    settings = PretrainSettings.from_dict({}, teacher=True)
    assert (settings.masked_words, settings.sentence_order, settings.distillation) == (0.0, 0.0, 1.0)
    mixed = PretrainSettings.from_dict({"distillation": 0.5}, teacher=True)
    assert (mixed.masked_words, mixed.distillation) == (1.0, 0.5)


def test_the_recipe_of_the_bundled_encoder_fits_its_limit_of_bytes() -> None:
    settings = PretrainSettings.from_dict(read_settings(RECIPES / "mini.toml"), teacher=True)
    hidden, width, inner = settings.hidden_size, settings.embedding_size, settings.intermediate_size
    embedding = (30_522 + settings.max_positions + 2 + 2) * width + (width + 1) * hidden
    layer = 4 * (hidden + 1) * hidden + (hidden + 1) * inner + (inner + 1) * hidden + 4 * hidden
    assert 2 * (embedding + layer + (hidden + 1) * hidden) <= 12_000_000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": 3}, "unknown pretraining setting 'layer'; did you mean 'layers'"),
        ({"layers": "three"}, "layers is 'three'; allowed: int"),
        ({"layers": True}, "layers is True; allowed: int"),
        ({"layers": 0}, "layers is 0; allowed: at least 1"),
        ({"layers": 4, "hidden_groups": 5}, "hidden_groups is 5; allowed: 1 to 4"),
        ({"leap": -1}, "leap is -1.0; allowed: at least 0"),
        ({"warm_up": 1.5}, "warm_up is 1.5; allowed: 0 to 1"),
        ({"learning_rate": 0}, "learning_rate is 0.0; allowed: more than 0"),
        ({"max_length": 600}, "max_length is 600; allowed: 8 to 512"),
        ({"batch_tokens": 100}, "batch_tokens is 100; allowed: at least 2048"),
        ({"attention_heads": 7}, "attention_heads is 7, which does not divide 384"),
        ({"seed": 2**32}, "seed is 4294967296; allowed: 0 to 4294967295"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"masked_words": 0, "sentence_order": 0}, "there is nothing to learn"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        PretrainSettings.from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"layers = ", "does not parse"),
        ("a.json", b"{", "does not parse"),
        ("a.json", b"[1]", "one table"),
        ("a.toml", b"layers = 3 # \xff", "does not parse"),
        ("a.yaml", b"layers: 3", "unknown ending; allowed: .toml, .json"),
    ],
)
def test_a_bad_settings_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_settings(tmp_path / name)


def test_a_missing_settings_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no settings file"):
        read_settings(tmp_path / "a.toml")


def test_the_rate_rises_then_falls_to_nothing() -> None:
    assert rate_at(0.0, 1e-3, 0.1) == 0
    assert rate_at(0.05, 1e-3, 0.1) == pytest.approx(5e-4)
    assert rate_at(0.1, 1e-3, 0.1) == pytest.approx(1e-3)
    assert rate_at(0.55, 1e-3, 0.1) == pytest.approx(5e-4)
    assert rate_at(1.0, 1e-3, 0.1) == 0
    assert rate_at(0.0, 1e-3, 0.0) == 1e-3


def test_the_recipe_of_the_default_encoder_starts_as_its_teacher() -> None:
    """A group for each of the teacher's six layers, from its first, at the teacher's own widths: nothing is lost."""
    settings = PretrainSettings.from_dict(read_settings(RECIPES / "small.toml"), teacher=True)
    assert (settings.layers, settings.hidden_groups, settings.teacher_layer) == (6, 6, 1)
    assert settings.embedding_size == settings.hidden_size == 384
    assert settings.leap > 0
