"""LengthDrop: what a training pass drops is what the engine drops, and a step learns from shorter rows too."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from elbert.engine import Arrival, Engine
from elbert.errors import UsageError
from elbert.exits.tokens import TokenSchedule
from elbert.modeling import load_model
from elbert.tasks import task_of
from elbert.training import EarlyExitTrainer, schemes
from elbert.training.encoding import encode
from elbert.training.length_drop import sandwich, with_shortened

SHAPES = [("albert", "shared"), ("bert", "full"), ("distilbert", "shared"), ("roberta", "mean"), ("electra", "shared")]


@pytest.mark.parametrize(("family", "heads"), SHAPES)
@pytest.mark.parametrize("keep", [((1, 0.5), (2, 0.2)), ((2, 4),)])
def test_a_training_pass_drops_the_tokens_that_the_engine_drops(
    family: str, heads: str, keep: Any, tiny_model: Callable[..., Any]
) -> None:
    model = tiny_model(family, heads=heads).eval()
    rng = torch.Generator().manual_seed(3)
    lengths = [3, 9, 17, 9]
    ids = [[2, *torch.randint(5, 30, (length - 1,), generator=rng).tolist()] for length in lengths]
    padded = torch.tensor([[*row, *[0] * (17 - len(row))] for row in ids])
    mask = (torch.arange(17) < torch.tensor(lengths)[:, None]).long()
    tokens = TokenSchedule(keep)
    with torch.no_grad():
        whole, short = model(padded, mask).logits, model(padded, mask, tokens=tokens).logits
        alone = torch.cat([model(torch.tensor([row]), tokens=tokens).logits for row in ids])
    recorded = Engine(model.weights()).record([Arrival(place, row) for place, row in enumerate(ids)], tokens=tokens)
    torch.testing.assert_close(short, recorded.logits, atol=2e-5, rtol=0)
    torch.testing.assert_close(alone, short, atol=2e-5, rtol=0)
    assert (short - whole).abs().amax() > 1e-4
    assert not any(module._forward_hooks for module in model.modules())


def test_a_step_has_the_shortest_schedule_and_two_between_it_and_all_tokens() -> None:
    torch.manual_seed(0)
    shortest, *drawn = sandwich(5, 0.2)
    assert [layer for layer, _ in shortest.keep] == [1, 2, 3, 4]
    assert [kept for _, kept in shortest.keep] == pytest.approx([0.8, 0.64, 0.512, 0.4096])
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]
    for each in drawn:
        before = 1.0
        for _, kept in each.keep:
            assert 0.8 * before <= kept <= before
            before = kept


def test_shorter_rows_learn_what_all_tokens_say_and_never_the_other_way() -> None:
    whole, short = (torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(row)) for row in (0, 1))
    whole.requires_grad_()
    short.requires_grad_()
    own = torch.tensor(0.7)
    loss = with_shortened(own, whole, [short, whole.detach()], task_of("single_label_classification"))
    p, q = short.softmax(-1), whole.softmax(-1)
    assert loss.item() == pytest.approx((0.7 + (p * (p / q).log()).sum(-1).mean().item()) / 3, rel=1e-5)
    loss.backward()
    assert whole.grad is None
    assert short.grad is not None


@pytest.fixture
def trainer(tiny_model: Any, tiny_tokenizer: Any, plain_tokenizer: Any, reviews: Any, tmp_path: Any) -> Any:
    """`trainer(family, **options)`: one on eight reviews."""

    def make(family: str = "bert", **options: Any) -> EarlyExitTrainer:
        args = TrainingArguments(str(tmp_path / "run"), use_cpu=True, max_steps=20, learning_rate=2e-3, seed=1)
        encoded = encode(reviews, plain_tokenizer, 32, progress=False)
        model = tiny_model(family)
        sets = {"train_dataset": encoded, "eval_dataset": encoded}
        scheme = schemes.make("equal", model.num_layers)
        return EarlyExitTrainer(model, scheme, args, tokenizer=tiny_tokenizer, **sets, **options)

    return make


def test_it_is_part_of_every_step_of_training_and_of_no_evaluation(trainer: Any) -> None:
    made = trainer(length_drop=0.5)
    batch = made.data_collator([made.train_dataset[row] for row in range(6)])
    plain = trainer()
    plain.model.load_state_dict(made.model.state_dict())
    for each in (made, plain):
        each.model.eval()
    assert made.compute_loss(made.model, batch).item() == pytest.approx(plain.compute_loss(plain.model, batch).item())
    ran: list[Any] = []
    made.multi_exit.register_forward_pre_hook(lambda *given: ran.append(given[2].get("tokens")), with_kwargs=True)
    made.create_optimizer_and_scheduler(20)
    made.model.train()
    torch.manual_seed(0)
    made.compute_loss(made.model, batch).backward()
    assert ran[0] is None
    assert ran[1] == sandwich(made.multi_exit.num_layers, 0.5)[0]
    assert len(set(ran)) == 4
    assert made.multi_exit.backbone.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_model_trained_so_stands_the_shortest_schedule_better(
    fine_tune: Any, settings: Any, tmp_path: Path, tiny_tokenizer: Any, tiny_texts: list[str]
) -> None:
    apart = {}
    for rate in (0.0, 0.5):
        asked = dataclasses.replace(settings, length_drop=rate, epochs=4)
        fine_tune(tmp_path / str(rate), family="bert", settings=asked)
        model, _, _ = load_model(tmp_path / str(rate))
        batch = tiny_tokenizer(tiny_texts, return_tensors="pt", padding=True)
        rows = batch["input_ids"], batch["attention_mask"]
        with torch.no_grad():
            whole, short = model(*rows).logits, model(*rows, tokens=sandwich(model.num_layers, 0.5)[0]).logits
        apart[rate] = float((whole.softmax(-1) - short.softmax(-1)).abs().mean())
    assert apart[0.5] < 0.8 * apart[0.0]
    with pytest.raises(UsageError, match="length_drop is 1; allowed: 0 to 0.9"):
        dataclasses.replace(settings, length_drop=1)


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2", "modernbert"])
def test_layers_that_look_at_distances_are_refused_before_the_first_step(trainer: Any, family: str) -> None:
    with pytest.raises(UsageError, match="length_drop: the model's layers look at distances"):
        trainer(family, length_drop=0.2)
