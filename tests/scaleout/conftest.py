"""What the tests of Ray share: one tiny model folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbert.modeling.files.load import load_model

TEXTS = [*(f"a {'good' if number % 3 else 'bad'} film {number}" for number in range(60)), "so so"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ALBERT with random weights and the labels neg and pos."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model, tokenizer, content = load_model("random-tiny", labels=["neg", "pos"], texts=TEXTS)
    model.save_pretrained(folder, tokenizer=tokenizer, elbert={**content, "default_policy": "elbert"})
    return folder
