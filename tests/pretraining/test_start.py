from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AlbertForPreTraining

from elbert.errors import UsageError
from elbert.pretraining import PretrainSettings
from elbert.pretraining.forward import hidden_states
from elbert.pretraining.objectives import layer_pairs
from elbert.pretraining.start import factorise, spread_layers, start_student
from elbert.pretraining.student import student_config
from elbert.pretraining.teacher import Teacher, load_teacher

IDS = torch.tensor([[2, 17, 40, 99, 3], [2, 250, 9, 31, 3]])
TYPES = torch.zeros_like(IDS)
CPU = torch.device("cpu")


def fresh(settings: PretrainSettings, teacher: Teacher) -> AlbertForPreTraining:
    torch.manual_seed(0)
    return AlbertForPreTraining(student_config(settings, teacher.tokenizer, len(teacher.embedding.word))).eval()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_at_full_rank_the_student_embeds_as_the_teacher_does(
    family: str, teacher_folder: Callable[..., Path], settings: Callable[..., PretrainSettings]
) -> None:
    teacher = load_teacher(str(teacher_folder(family)), torch.float32, CPU)
    width = teacher.embedding.word.shape[1]
    student = fresh(settings(embedding_size=width), teacher).albert
    start_student(student, teacher, layer=0)
    with torch.no_grad():
        student_embedding = student.encoder.embedding_hidden_mapping_in(student.embeddings(IDS))
    torch.testing.assert_close(student_embedding, teacher.hidden_states(IDS, TYPES)[0], atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_a_teacher_embeds_at_any_position_as_its_own_module_does(
    family: str, teacher_folder: Callable[..., Path]
) -> None:
    teacher = load_teacher(str(teacher_folder(family)), torch.float32, CPU)
    torch.testing.assert_close(teacher.embed(IDS, TYPES, 0), teacher.hidden_states(IDS, TYPES)[0])
    assert not torch.allclose(teacher.embed(IDS, TYPES, 3), teacher.embed(IDS, TYPES, 0))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_the_shared_layer_starts_as_the_teachers_layer(
    family: str, teacher_folder: Callable[..., Path], settings: Callable[..., PretrainSettings]
) -> None:
    teacher = load_teacher(str(teacher_folder(family)), torch.float32, CPU)
    act = "gelu_new" if family == "albert" else "gelu"
    shape = settings(embedding_size=16, layers=1, intermediate_size=24, hidden_act=act)
    student = fresh(shape, teacher).albert
    start_student(student, teacher, layer=2)
    states = teacher.hidden_states(IDS, TYPES)
    with torch.no_grad():
        layer = student.encoder.albert_layer_groups[0].albert_layers[0](states[1], None)
    layer = layer[0] if isinstance(layer, tuple) else layer
    torch.testing.assert_close(layer, states[2], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_with_a_group_for_each_of_its_layers_the_student_starts_as_the_teacher(
    family: str, teacher_folder: Callable[..., Path], settings: Callable[..., PretrainSettings]
) -> None:
    teacher = load_teacher(str(teacher_folder(family)), torch.float32, CPU)
    states = teacher.hidden_states(IDS, TYPES)
    layers, act = len(states) - 1, "gelu_new" if family == "albert" else "gelu"
    width = teacher.embedding.word.shape[1]
    inner = teacher.layers[0].up.weight.shape[0]
    shape = settings(embedding_size=width, layers=layers, hidden_groups=layers, intermediate_size=inner, hidden_act=act)
    student = fresh(shape, teacher).albert
    start_student(student, teacher, layer=1)
    with torch.no_grad():
        started = hidden_states(student, IDS, TYPES)
    for mine, theirs in zip(started, states, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=1e-3)


def test_groups_spread_evenly_over_the_teachers_layers() -> None:
    assert spread_layers(1, 6, 6) == [1, 2, 3, 4, 5, 6]
    assert spread_layers(2, 12, 3) == [2, 7, 12]
    assert spread_layers(1, 3, 6) == [1, 1, 2, 2, 3, 3]
    assert spread_layers(3, 6, 1) == [3]


def test_more_rank_is_closer(teacher_folder: Callable[..., Path]) -> None:
    teacher = load_teacher(str(teacher_folder()), torch.float32, CPU)
    target = teacher.hidden_states(IDS, TYPES)[0]
    errors = []
    for size in (4, 8, 16):
        factors = factorise(teacher.embedding, size)
        summed = factors.word[IDS] + factors.position[: IDS.shape[1]] + factors.token_type[TYPES]
        normed = torch.nn.functional.layer_norm(summed, (size,))
        errors.append((normed @ factors.projection_weight.T + factors.projection_bias - target).square().mean().item())
    assert errors[0] > errors[1] > errors[2]


def test_words_that_count_more_are_kept_better(teacher_folder: Callable[..., Path]) -> None:
    embedding = load_teacher(str(teacher_folder()), torch.float32, CPU).embedding
    counts = torch.ones(len(embedding.word))
    counts[:10] = 1e6
    lost = [
        (embedding.word - embedding.word.mean(1, keepdim=True)).norm(dim=1)[:10].mean()
        - factorise(embedding, 6, weights).word.norm(dim=1)[:10].mean()
        for weights in (counts, None)
    ]
    assert lost[0] < lost[1]


def test_a_teacher_of_another_width_lends_its_words_only(
    teacher_folder: Callable[..., Path], settings: Callable[..., PretrainSettings]
) -> None:
    teacher = load_teacher(str(teacher_folder()), torch.float32, CPU)
    student = fresh(settings(hidden_size=24), teacher).albert
    before = student.encoder.embedding_hidden_mapping_in.weight.clone()
    start_student(student, teacher, layer=1)
    assert torch.equal(student.encoder.embedding_hidden_mapping_in.weight, before)
    assert torch.equal(student.embeddings.word_embeddings.weight, factorise(teacher.embedding, 8).word)


def test_a_layer_the_teacher_does_not_have_is_refused(
    teacher_folder: Callable[..., Path], settings: Callable[..., PretrainSettings]
) -> None:
    teacher = load_teacher(str(teacher_folder()), torch.float32, CPU)
    with pytest.raises(UsageError, match="teacher_layer is 4; allowed: 0 to 3"):
        start_student(fresh(settings(), teacher).albert, teacher, layer=4)


def test_layers_are_matched_evenly_and_the_last_with_the_last() -> None:
    assert layer_pairs(12, 6) == [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5), (12, 6)]
    assert layer_pairs(4, 3) == [(1, 1), (3, 2), (4, 3)]
    assert layer_pairs(3, 12) == [(1, 4), (2, 8), (3, 12)]
