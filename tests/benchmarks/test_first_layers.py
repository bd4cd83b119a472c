"""The first layers of a model, alone, compute what they do inside it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from elbert import Classifier
from elbert.modeling.files.load import load_model
from elbert.modeling.heads import read_out, read_states
from first_layers import cut, keep_layers

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


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "deberta-v2"])
def test_every_other_layer_of_a_model_is_those_layers_in_a_row(family: str, tiny_model: Any) -> None:
    model = tiny_model(family)
    ids = torch.randint(5, 200, (4, 6), generator=torch.Generator().manual_seed(0))
    steps = list(model.family.steps(model.backbone))
    hidden = model.family.embed(model.backbone, ids, None)
    run = model.family.stepping(model.backbone, hidden, None)
    wanted = run(steps[2], run(steps[0], hidden))
    keep_layers(model, range(1, 4, 2))
    assert model.num_layers == 2
    assert [each is step for each, step in zip(model.family.steps(model.backbone), steps[::2], strict=True)] == [
        True
    ] * 2
    states = read_states(model.family, model.backbone, wanted, None, over_all=False)
    logits, _ = read_out(model.family, model.backbone, None, states[:, None])
    torch.testing.assert_close(model(ids).logits[:, 1], logits[:, 0])


def test_layers_that_cannot_be_cut_are_refused(tiny_model: Any) -> None:
    with pytest.raises(SystemExit, match="has layers of several kinds"):
        keep_layers(tiny_model("modernbert"), [1])
    with pytest.raises(SystemExit, match="layer 4 is to be kept; allowed: 1 to 3"):
        keep_layers(tiny_model("bert"), [1, 4])


def test_layers_in_some_groups_are_refused(tmp_path: Path) -> None:
    model, tokenizer, elbert = load_model("random-tiny", labels=["neg", "pos"], texts=TEXTS)
    config = model.config
    config.num_hidden_groups = 2
    type(model)(type(model.backbone)(config)).save_pretrained(tmp_path / "whole", tokenizer=tokenizer, elbert=elbert)
    with pytest.raises(SystemExit, match="has 2 hidden groups; allowed: one that all share, or layers alike"):
        cut(str(tmp_path / "whole"), 2, tmp_path)
