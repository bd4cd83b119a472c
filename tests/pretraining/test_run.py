from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from elbert.errors import DataError, ElbertError, ModelError, UsageError
from elbert.modeling.files.load import load_model
from elbert.pretraining import PretrainSettings, Report, pretrain
from elbert.pretraining.optimizer import MasterWeights
from elbert.training import TrainingInterruptedError

Settings = Callable[..., PretrainSettings]
Teachers = Callable[..., Path]


def losses(out: Path, name: str) -> list[float]:
    """The held-out loss of one objective, in the order of the reports."""
    return [report["held_out"][name] for report in json.loads((out / "pretraining.json").read_text())["log"]]


def same_weights(left: Path, right: Path) -> bool:
    one, two = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Stop:
    """Raises as a kill would leave things, after so many reports."""

    def __init__(self, reports: int) -> None:
        self.left = reports

    def __call__(self, report: Report) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("killed")


def test_albert_objectives_reduce_the_held_out_loss(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    summary = pretrain([corpus], tmp_path / "out", settings(tokens=10_000))
    masked = losses(tmp_path / "out", "masked_words")
    assert masked[-1] < 0.85 * masked[0]
    assert summary.tokens >= 10_000
    assert set(summary.held_out) == {"masked_words", "sentence_order"}


def test_distillation_reduces_the_distance_to_the_teacher(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    out = tmp_path / "out"
    summary = pretrain([corpus], out, settings(teacher=True), teacher=str(teacher_folder()))
    assert set(summary.held_out) == set(summary.loss) == {"tokens", "sentence"}
    assert losses(out, "tokens")[-1] < 0.9 * losses(out, "tokens")[0]
    assert losses(out, "sentence")[-1] < 0.9 * losses(out, "sentence")[0]


def test_leap_pulls_the_mean_over_tokens_of_every_depth_to_the_teachers_last(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    for name, leap in (("with", 1.0), ("without", 1e-9)):  # so small that it is measured and changes nothing
        asked = settings(teacher=True, hidden_groups=4, teacher_layer=1, leap=leap)
        pretrain([corpus], tmp_path / name, asked, teacher=str(teacher_folder()))
    pulled, left = losses(tmp_path / "with", "leap"), losses(tmp_path / "without", "leap")
    assert pulled[-1] < 0.9 * pulled[0]
    assert pulled[-1] < left[-1]


def test_hidden_groups_are_kept_on_disk_and_by_what_goes_on(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pretrain([corpus], first, settings(teacher=True, hidden_groups=2, tokens=500), teacher=str(teacher_folder()))
    assert json.loads((first / "config.json").read_text())["num_hidden_groups"] == 2
    assert "4 layers in 2 groups with weights of their own" in (first / "README.md").read_text()
    assert AutoModel.from_pretrained(first).encoder.albert_layer_groups[1] is not None
    pretrain([corpus], second, settings(tokens=200), start=str(first))
    assert json.loads((second / "pretraining.json").read_text())["settings"]["hidden_groups"] == 2


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "albert"])
def test_any_family_can_teach(
    family: str, corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    summary = pretrain(
        [corpus], tmp_path / "out", settings(teacher=True, tokens=500), teacher=str(teacher_folder(family))
    )
    assert summary.held_out["tokens"] > 0


def test_a_teacher_of_another_width_can_teach(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    out = tmp_path / "out"
    pretrain([corpus], out, settings(teacher=True, hidden_size=24), teacher=str(teacher_folder()))
    assert losses(out, "tokens")[-1] < losses(out, "tokens")[0]


def test_both_ways_can_be_mixed(corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers) -> None:
    mixed = settings(teacher=True, distillation=1.0, masked_words=0.5, sentence_order=0.5, tokens=500)
    summary = pretrain([corpus], tmp_path / "out", mixed, teacher=str(teacher_folder()))
    assert set(summary.held_out) == {"masked_words", "sentence_order", "tokens", "sentence"}


def test_masked_words_can_follow_distillation(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    pretrain([corpus], first, settings(teacher=True), teacher=str(teacher_folder()))
    pretrain([corpus], second, settings(layers=9, learning_rate=1e-9, tokens=200), start=str(first))
    name = "embeddings.word_embeddings.weight"
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert torch.equal(before[name], after[f"albert.{name}"])
    assert json.loads((second / "config.json").read_text())["num_hidden_layers"] == 4  # the shape is the earlier one's


def test_the_folder_is_an_ordinary_checkpoint(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    summary = pretrain([corpus], out, settings(tokens=500))
    encoder = AutoModel.from_pretrained(out)
    assert encoder.dtype == torch.float32
    assert sum(parameter.numel() for parameter in encoder.parameters()) == summary.parameters
    assert AutoModelForSequenceClassification.from_pretrained(out, num_labels=3).dtype == torch.float32
    _, report = AutoModelForMaskedLM.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    with safe_open(out / "model.safetensors", "pt") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "pretraining.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not (tmp_path / "out.partial").exists()


def test_a_distilled_folder_holds_the_encoder_alone(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    out, teacher = tmp_path / "out", teacher_folder()
    summary = pretrain([corpus], out, settings(teacher=True, tokens=500), teacher=str(teacher))
    assert sum(tensor.numel() for tensor in load_file(out / "model.safetensors").values()) == summary.parameters
    ours, theirs = AutoTokenizer.from_pretrained(out), AutoTokenizer.from_pretrained(teacher)
    assert ours.get_vocab() == theirs.get_vocab()
    assert "distilled from `bert`" in (out / "README.md").read_text()
    assert str(teacher.parent) not in (out / "pretraining.json").read_text()  # where it lay is nobody's business
    assert str(tmp_path) not in (out / "pretraining.json").read_text()


def test_a_trained_tokenizer_reloads_lower_cases_and_round_trips(
    corpus: Path, tmp_path: Path, settings: Settings
) -> None:
    out = tmp_path / "out"
    pretrain([corpus], out, settings(tokens=200))
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert len(tokenizer) <= 200
    encoded = tokenizer("The FILM was great", "and witty.")
    assert tokenizer.decode(encoded["input_ids"]) == "[CLS] the film was great [SEP] and witty. [SEP]"
    assert encoded["token_type_ids"][0] == 0
    assert encoded["token_type_ids"][-1] == 1
    assert tokenizer.model_max_length == 64


def test_elbert_fine_tunes_what_pretrain_made(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    pretrain([corpus], tmp_path / "out", settings(tokens=200))
    model, _, _ = load_model(tmp_path / "out", num_labels=2)
    assert model.num_layers == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("taught", [False, True])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    dtype: str, taught: bool, corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    asked = settings(teacher=taught, dtype=dtype, tokens=1500, hidden_groups=2, leap=0.5)
    teacher = str(teacher_folder()) if taught else None
    whole = pretrain([corpus], tmp_path / "whole", asked, teacher=teacher)
    out = tmp_path / "broken"
    with pytest.raises(RuntimeError, match="killed"):
        pretrain([corpus], out, asked, teacher=teacher, on_report=Stop(3))
    assert not out.exists()
    resumed = pretrain([corpus], out, asked, teacher=teacher, resume=True)
    assert (resumed.steps, resumed.tokens, resumed.held_out) == (whole.steps, whole.tokens, whole.held_out)
    assert same_weights(tmp_path / "whole", out)


def test_a_run_over_several_epochs_resumes_exactly(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    asked = settings(tokens=0, epochs=1.5, batch_tokens=1024, micro_tokens=512)
    whole = pretrain([corpus], tmp_path / "whole", asked)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain([corpus], tmp_path / "broken", asked, on_report=Stop(whole.steps - 2))
    assert pretrain([corpus], tmp_path / "broken", asked, resume=True).steps == whole.steps
    assert same_weights(tmp_path / "whole", tmp_path / "broken")


def test_a_signal_saves_and_says_how_to_go_on(
    corpus: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = MasterWeights.step

    def interrupted(self: MasterWeights, rate: float) -> None:
        step(self, rate)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MasterWeights, "step", interrupted)
    with caplog.at_level(logging.ERROR), pytest.raises(TrainingInterruptedError, match="go on with --resume"):
        pretrain([corpus], tmp_path / "out", settings())
    monkeypatch.setattr(MasterWeights, "step", step)
    assert pretrain([corpus], tmp_path / "out", settings(), resume=True).tokens >= 3000


def test_workers_side_by_side_give_the_same_weights(
    corpus: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for workers in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda workers=workers: workers)
        pretrain([corpus], tmp_path / str(workers), settings(tokens=1000))
    assert same_weights(tmp_path / "1", tmp_path / "2")


def test_the_same_seed_gives_the_same_encoder(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        pretrain([corpus], tmp_path / name, settings(tokens=500, seed=seed))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_hours_end_a_run(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    summary = pretrain([corpus], tmp_path / "out", settings(tokens=0, epochs=1e9, hours=0.0002))
    assert 0 < summary.steps < 1000


def test_an_existing_folder_is_left_alone(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    out = tmp_path / "out"
    pretrain([corpus], out, settings(tokens=200))
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match=r"exists; name another folder, or give --overwrite"):
        pretrain([corpus], out, settings(tokens=200))
    assert (out / "model.safetensors").read_bytes() == before
    pretrain([corpus], out, settings(tokens=500), overwrite=True)
    assert (out / "model.safetensors").read_bytes() != before


def test_an_unfinished_run_is_neither_overwritten_nor_resumed_as_another(
    corpus: Path, tmp_path: Path, settings: Settings
) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="killed"):
        pretrain([corpus], out, settings(), on_report=Stop(1))
    with pytest.raises(UsageError, match=r"unfinished run lies at .*--resume"):
        pretrain([corpus], out, settings())
    with pytest.raises(UsageError, match=r"settings.learning_rate was 0.003 and is now 0.1"):
        pretrain([corpus], out, settings(learning_rate=0.1), resume=True)
    assert (tmp_path / "out.partial/checkpoint.safetensors").is_file()


def test_a_damaged_checkpoint_is_named(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        pretrain([corpus], tmp_path / "out", settings(), on_report=Stop(1))
    (tmp_path / "out.partial/checkpoint.safetensors").write_bytes(b"cut short")
    with pytest.raises(ElbertError, match=r"damaged.*--overwrite"):
        pretrain([corpus], tmp_path / "out", settings(), resume=True)


def test_nothing_to_resume_is_said(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(UsageError, match="nothing to resume"):
        pretrain([corpus], tmp_path / "out", settings(), resume=True)


def test_bad_requests_are_refused_and_leave_nothing(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    empty, broken, out = tmp_path / "empty.txt", tmp_path / "broken.txt", tmp_path / "out"
    empty.write_text("\n \n")
    broken.write_bytes(b"good\n\n\xff\xfe\n")
    requests: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UsageError, "there is no corpus", {"corpus": []}),
        (UsageError, "no corpus file", {"corpus": [tmp_path / "nowhere.txt"]}),
        (DataError, "holds no text", {"corpus": [empty]}),
        (DataError, "line 3: not UTF-8", {"corpus": [broken]}),
        (UsageError, "no model folder", {"teacher": str(tmp_path / "nobody"), "settings": settings(teacher=True)}),
        (UsageError, "no model folder", {"start": str(tmp_path / "nobody")}),
        (UsageError, "needs a teacher", {"settings": settings(distillation=1.0)}),
        (UsageError, "distillation is 0", {"teacher": str(teacher_folder()), "settings": settings()}),
        (ModelError, "family 'bert'; only an ALBERT", {"start": str(teacher_folder())}),
        (
            UsageError,
            "max_length is 65; bert reads at most 64",
            {"teacher": str(teacher_folder()), "settings": settings(teacher=True, max_length=65, max_positions=128)},
        ),
    ]
    for kind, message, changes in requests:
        asked: dict[str, Any] = {"corpus": [corpus], "settings": settings()} | changes
        with pytest.raises(kind, match=message.replace("bert reads", ".* reads")):
            pretrain(asked.pop("corpus"), out, asked.pop("settings"), **asked)
        assert not list(tmp_path.glob("out*"))


def test_a_loss_that_is_no_number_ends_the_run(corpus: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ElbertError, match=r"not a number.*lower learning_rate"):
        pretrain([corpus], tmp_path / "out", settings(learning_rate=1e30))


def test_a_vocabulary_that_differs_from_the_teachers_is_refused(
    corpus: Path, tmp_path: Path, settings: Settings, teacher_folder: Teachers
) -> None:
    pretrain([corpus], tmp_path / "own", settings(tokens=200))
    with pytest.raises(UsageError, match="different vocabularies"):
        pretrain(
            [corpus],
            tmp_path / "out",
            settings(teacher=True),
            teacher=str(teacher_folder()),
            start=str(tmp_path / "own"),
        )
