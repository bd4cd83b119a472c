"""The first layers of a model, alone, compute what they do inside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from elbert import Classifier
from elbert.modeling.files.load import load_model
from first_layers import cut

TEXTS = ["a good film", "a very bad film", "so so"]


@pytest.mark.parametrize("groups", [1, 4])
def test_the_first_layers_alone_compute_what_they_do_inside(groups: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, tokenizer, elbert = load_model("random-tiny", labels=["neg", "pos"], texts=TEXTS)
    if groups > 1:
        config = model.config
        config.num_hidden_groups = groups
        model = type(model)(type(model.backbone)(config))
    model.save_pretrained(tmp_path / "whole", tokenizer=tokenizer, elbert=elbert)
    first = cut(str(tmp_path / "whole"), 2, tmp_path)  # with a fresh classifier
    states = [
        Classifier.from_pretrained(each).record(TEXTS, pooled=True).pooled for each in (tmp_path / "whole", first)
    ]
    assert states[0] is not None
    torch.testing.assert_close(states[1], states[0][:, :2])


def test_layers_in_some_groups_are_refused(tmp_path: Path) -> None:
    model, tokenizer, elbert = load_model("random-tiny", labels=["neg", "pos"], texts=TEXTS)
    config = model.config
    config.num_hidden_groups = 2
    type(model)(type(model.backbone)(config)).save_pretrained(tmp_path / "whole", tokenizer=tokenizer, elbert=elbert)
    with pytest.raises(SystemExit, match="has 2 hidden groups; allowed: an ALBERT with one, or one per layer"):
        cut(str(tmp_path / "whole"), 2, tmp_path)
