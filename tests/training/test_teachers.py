"""Learning from a trained classifier: what it is asked, how its classes are matched, what an exit's loss becomes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from elbert.cli import main
from elbert.data import Labels, TextDataset
from elbert.errors import DataWarning, ModelError, UsageError
from elbert.modeling import load_model
from elbert.modeling.losses import depth_distance, labelled_losses, layer_losses
from elbert.runs.callbacks import TrainingInterruptedError
from elbert.training import teachers
from elbert.training.encoding import encode
from elbert.training.head_start import ValueUnits
from elbert.training.lesson import make_lesson, taught_losses
from elbert.training.teachers import Teacher, load_teacher
from tests.conftest import FAMILIES
from tests.training.conftest import make_dataset, same_weights, train_command

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
SPACE = Labels(SINGLE, ("good", "bad"))


@pytest.fixture
def save_teacher(tiny_model, tiny_tokenizer, tmp_path):
    """`save_teacher(family="bert", names=…, problem_type=…)`: a folder as transformers alone would write it."""

    def save(family="bert", names=("good", "bad"), problem_type=SINGLE, folder="teacher", change=None):
        labels = dict(enumerate(names))
        back = {name: place for place, name in labels.items()}
        model = tiny_model(family, seed=5, problem_type=problem_type, id2label=labels, label2id=back)
        if change is not None:
            change(model.family.head(model.backbone)[2])
        model.backbone.save_pretrained(tmp_path / folder)
        tiny_tokenizer.save_pretrained(tmp_path / folder)
        return str(tmp_path / folder)

    return save


@pytest.fixture
def asked(monkeypatch):
    """Ask for eight texts at a time, and note how many each time; `asked.fail_at` is the call that is killed."""

    class Asked(list):
        fail_at = 0

    calls, answer = Asked(), Teacher.logits

    def logits(self, texts, dtype):
        calls.append(len(texts))
        if len(calls) == calls.fail_at:
            raise KeyboardInterrupt
        return answer(self, texts, dtype)

    monkeypatch.setattr(teachers, "CHUNK", 8)
    monkeypatch.setattr(Teacher, "logits", logits)
    return calls


def last_logits(folder, tokenizer, texts):
    model, _, _ = load_model(folder)
    rows = []
    with torch.no_grad():
        for text in texts:
            encoded = tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
            rows.append(model.backbone(**{k: encoded[k] for k in ("input_ids", "attention_mask")}).logits[0])
    return torch.stack(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_of_any_family_says_what_transformers_says(family, save_teacher, tiny_tokenizer, tiny_texts):
    folder = save_teacher(family)
    answers = load_teacher(folder, SPACE, 32).logits(tiny_texts, "float32")
    torch.testing.assert_close(answers, last_logits(folder, tiny_tokenizer, tiny_texts), atol=1e-4, rtol=1e-4)


def test_classes_in_another_order_are_matched_by_name(save_teacher, tiny_tokenizer, tiny_texts):
    folder = save_teacher(names=("bad", "good"))
    answers = load_teacher(folder, SPACE, 32).logits(tiny_texts, "float32")
    plain = last_logits(folder, tiny_tokenizer, tiny_texts)
    torch.testing.assert_close(answers, plain[:, [1, 0]], atol=1e-4, rtol=1e-4)


def test_classes_spelt_otherwise_are_the_same_as_where_a_head_is_kept(save_teacher):
    assert load_teacher(save_teacher(names=("Bad", "GOOD")), SPACE, 32).order == (1, 0)


def test_a_teacher_of_single_texts_that_is_to_teach_pairs_is_warned_of(fine_tune, settings, tmp_path, tiny_texts):
    fine_tune(tmp_path / "teacher", settings=dataclasses.replace(settings, epochs=1))
    halves = [(text, "a film") for text in make_dataset(tiny_texts).texts]
    pairs = dataclasses.replace(make_dataset(tiny_texts), texts=halves)
    with pytest.warns(DataWarning, match="teacher .*teacher learnt from single texts and is given pairs of texts"):
        fine_tune(tmp_path / "student", dataset=pairs, teacher=str(tmp_path / "teacher"))


def test_classes_that_have_only_numbers_are_matched_by_number(save_teacher):
    folder = save_teacher(names=("LABEL_0", "LABEL_1"))
    assert load_teacher(folder, Labels(SINGLE, ("0", "1")), 32).order == (0, 1)


@pytest.mark.parametrize(
    ("names", "problem_type", "said"),
    [
        (("good", "poor"), SINGLE, r"knows the classes .*poor.* and the data .*bad.*id2label"),
        (("good", "bad", "mixed"), SINGLE, "mixed"),
        (("LABEL_0", "LABEL_1"), SINGLE, "LABEL_0"),
        (("good", "bad"), MULTI, "is for multi_label_classification and the data for single_label"),
        (("score",), REGRESSION, "is for regression and the data for single_label"),
    ],
)
def test_a_teacher_of_something_else_is_refused_in_one_line(names, problem_type, said, save_teacher):
    with pytest.raises(UsageError, match=said) as caught:
        load_teacher(save_teacher(names=names, problem_type=problem_type), SPACE, 32)
    assert "\n" not in str(caught.value)


def test_an_encoder_that_was_never_fine_tuned_is_no_teacher():
    with pytest.raises(ModelError, match="has no trained classification head"):
        load_teacher("mini", SPACE, 32)


def test_texts_without_labels_need_a_teacher_and_the_datas_own_kind(save_teacher, reviews):
    more = TextDataset(["more text"])
    with pytest.raises(UsageError, match="nothing to teach without a teacher"):
        make_lesson(None, more, reviews, 32)
    with pytest.raises(UsageError, match="single texts and pairs"):
        make_lesson(save_teacher(), TextDataset([("one", "two")]), reviews, 32)


def test_a_text_without_a_label_counts_nothing_where_nobody_teaches():
    logits, labels = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 0])
    some = labelled_losses(logits, labels, torch.tensor([True, True, False, False]), SINGLE)
    torch.testing.assert_close(some, layer_losses(logits[:2], labels[:2], SINGLE))
    torch.testing.assert_close(labelled_losses(logits, labels, None, SINGLE), layer_losses(logits, labels, SINGLE))
    assert labelled_losses(logits, labels, torch.zeros(4, dtype=torch.bool), SINGLE).tolist() == [0.0] * 3


def test_exits_learn_from_the_last_one_of_texts_without_labels_too(
    fine_tune, settings, tmp_path, save_teacher, tiny_texts
):
    chosen = dataclasses.replace(settings, scheme="self_distillation", words=False)
    told = {"settings": chosen, "family": "bert", "heads": "full"}
    texts = [f"{text} again" for text in tiny_texts]
    fine_tune(tmp_path / "none", **told)
    fine_tune(tmp_path / "more", **told, unlabelled=TextDataset(texts))
    assert not same_weights(tmp_path / "none", tmp_path / "more")
    saved = json.loads((tmp_path / "more" / "elbert.json").read_text())["training"]
    assert (saved["unlabelled"]["rows"], saved["train_rows"], "teacher" in saved) == (8, 54, False)
    assert saved["steps"] == 16  # of 62 texts in batches of 8, twice
    assert "texts without a label, for the exits before the last: 8" in (tmp_path / "more" / "README.md").read_text()
    labels = TextDataset(texts, [0] * 8, SPACE, "reviews")  # which nobody looks at
    fine_tune(tmp_path / "again", **told, unlabelled=labels)
    assert same_weights(tmp_path / "more", tmp_path / "again")
    fine_tune(tmp_path / "both", **told, unlabelled=TextDataset(texts), teacher=save_teacher())
    other = told | {"settings": dataclasses.replace(chosen, scheme="two_stage")}
    with pytest.raises(UsageError, match="asks for a label of every text"):
        fine_tune(tmp_path / "refused", **other, unlabelled=TextDataset(texts), teacher=save_teacher())


def test_a_run_killed_while_the_teacher_is_asked_goes_on_to_the_same_model(
    fine_tune, tmp_path, save_teacher, asked, tiny_texts
):
    lesson = {"teacher": save_teacher(), "unlabelled": TextDataset(tiny_texts)}
    fine_tune(tmp_path / "whole", **lesson)
    assert asked == [8] * 7 + [6]  # 54 texts with labels and 8 without
    asked.clear()
    asked.fail_at = 4
    with pytest.raises(TrainingInterruptedError, match=r"24 of 62 answers are kept: .*--resume"):
        fine_tune(tmp_path / "broken", **lesson)
    asked.clear()
    asked.fail_at = 0
    fine_tune(tmp_path / "broken", resume=True, **lesson)
    assert asked == [8] * 4 + [6]  # nothing is asked twice
    assert same_weights(tmp_path / "whole", tmp_path / "broken")
    assert not (tmp_path / "broken.partial").exists()


def test_another_teacher_or_other_texts_are_another_run(fine_tune, tmp_path, save_teacher, asked, tiny_texts):
    asked.fail_at = 2
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "out", teacher=save_teacher())
    with pytest.raises(UsageError, match="unlabelled"):
        fine_tune(tmp_path / "out", teacher=save_teacher(), unlabelled=TextDataset(tiny_texts), resume=True)
    with pytest.raises(UsageError, match=r"teacher\.digest"):
        fine_tune(tmp_path / "out", teacher=save_teacher("albert"), resume=True)


def test_a_damaged_answer_is_named(fine_tune, tmp_path, save_teacher, asked):
    asked.fail_at = 3
    with pytest.raises(TrainingInterruptedError):
        fine_tune(tmp_path / "out", teacher=save_teacher())
    (tmp_path / "out.partial" / "teacher" / "000001.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match=r"000001.safetensors cannot be read .* delete it and resume"):
        fine_tune(tmp_path / "out", teacher=save_teacher(), resume=True)


def test_a_student_without_a_word_of_labels_learns_what_the_teacher_thinks(
    fine_tune, settings, tmp_path, reviews, tiny_texts
):
    """Its labels say the reverse of the teacher's and weigh nothing."""
    teacher = fine_tune(tmp_path / "teacher", evaluation=reviews, settings=dataclasses.replace(settings, epochs=6))
    assert teacher.layer_scores[-1] == 1.0
    wrong = dataclasses.replace(reviews, labels=[1 - label for label in reviews.labels])
    alone = dataclasses.replace(settings, epochs=6, teacher_weight=1.0)
    taught = fine_tune(
        tmp_path / "student", dataset=wrong, evaluation=reviews, settings=alone, teacher=str(tmp_path / "teacher")
    )
    assert min(taught.layer_scores) > 0.95


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_several_labels_and_values_can_be_taught(problem_type, fine_tune, tmp_path, save_teacher, tiny_texts):
    dataset = make_dataset(tiny_texts, problem_type=problem_type)
    names = ("long", "good") if problem_type == MULTI else ("score",)
    folder = save_teacher(names=names, problem_type=problem_type)
    fine_tune(tmp_path / "out", dataset=dataset, teacher=folder, unlabelled=TextDataset(tiny_texts))
    saved = json.loads((tmp_path / "out" / "elbert.json").read_text())["training"]
    assert saved["teacher"]["name"] == "teacher"
    assert saved["teacher"]["unlabelled"]["rows"] == 8
    assert saved["train_rows"] == 55  # rows of one text stay together, so five of sixty are kept aside
    assert str(tmp_path) not in json.dumps(saved)


def test_a_taught_value_is_learnt_in_the_labels_units(tmp_path, save_teacher, plain_tokenizer, tiny_texts):
    def seven_thousand(head):
        with torch.no_grad():
            head.weight.zero_()
            head.bias.fill_(7000.0)

    dataset = make_dataset(tiny_texts, problem_type=REGRESSION)
    prices = dataclasses.replace(dataset, labels=[1000 * value + 6000 for value in dataset.labels])
    folder = save_teacher(names=("score",), problem_type=REGRESSION, change=seven_thousand)
    units, lesson = ValueUnits.of(prices), make_lesson(folder, TextDataset(tiny_texts), prices, 32)
    read = encode(units.encoded(prices), plain_tokenizer, 32, progress=False)
    taught = lesson.add_to(read, prices, plain_tokenizer, "float32", tmp_path / "answers", units, progress=False)
    assert (len(taught), taught.labelled) == (68, 60)
    torch.testing.assert_close(taught.answers, torch.full((68, 1), (7000 - units.mean) / units.scale))


def losses(problem_type, labels, answers, labelled, weight=0.3, temperature=2.0):
    torch.manual_seed(0)
    logits = torch.randn(4, 3, 2 if problem_type != REGRESSION else 1)
    how = {"weight": weight, "temperature": temperature}
    return logits, taught_losses(logits, labels, answers, torch.tensor(labelled), problem_type, **how)


def test_the_loss_is_hintons_at_every_exit():
    labels, answers = torch.tensor([0, 1, 1, 0]), torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    logits, found = losses(SINGLE, labels, answers, [True, True, True, False])
    for exit in range(3):
        rows = []
        for row in range(4):
            divergence = F.kl_div(
                (logits[row, exit] / 2).log_softmax(0), (answers[row] / 2).softmax(0), reduction="sum"
            )
            own = F.cross_entropy(logits[row, exit][None], labels[row][None])
            rows.append(0.7 * own + 0.3 * 4 * divergence if row < 3 else 4 * divergence)
        torch.testing.assert_close(found[exit], torch.stack(rows).mean())


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI, REGRESSION])
def test_a_weight_of_nothing_leaves_the_labels_loss(problem_type):
    labels = {SINGLE: torch.tensor([0, 1, 1, 0]), MULTI: torch.eye(2).repeat(2, 1), REGRESSION: torch.arange(4.0)}
    width = 1 if problem_type == REGRESSION else 2
    logits, found = losses(problem_type, labels[problem_type], torch.randn(4, width), [True] * 4, weight=0.0)
    torch.testing.assert_close(found, layer_losses(logits, labels[problem_type], problem_type))


@pytest.mark.parametrize("problem_type", [SINGLE, MULTI, REGRESSION])
def test_who_thinks_as_the_teacher_does_has_nothing_to_learn(problem_type):
    answers = torch.randn(4, 1 if problem_type == REGRESSION else 2, generator=torch.Generator().manual_seed(1))
    logits = answers[:, None].repeat(1, 3, 1).requires_grad_()
    labels = torch.zeros(4, dtype=torch.long) if problem_type == SINGLE else torch.zeros_like(answers)
    found = taught_losses(logits, labels, answers, torch.zeros(4), problem_type, weight=0.5, temperature=2.0)
    torch.testing.assert_close(found, torch.zeros(3), atol=1e-6, rtol=0)
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)
    elsewhere = taught_losses(
        logits + 1.5 * torch.tensor([1.0, -1.0])[: logits.shape[-1]],
        labels,
        answers,
        torch.zeros(4),
        problem_type,
        weight=0.5,
        temperature=2.0,
    )
    assert bool((elsewhere > 0.01).all())


def test_every_depth_is_pulled_to_the_last_and_the_last_to_none():
    pooled = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    distance = depth_distance(pooled)
    (gradient,) = torch.autograd.grad(distance, pooled)
    assert bool((gradient[:, :2].abs().sum(-1) > 0).all())
    assert not gradient[:, 2].any()
    same = pooled[:, -1:].repeat(1, 3, 1)
    torch.testing.assert_close(depth_distance(same), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert not depth_distance(pooled[:, :1]).any()  # one exit: nothing to pull


def test_leap_brings_the_depths_together(fine_tune, settings, tmp_path, tiny_tokenizer, tiny_texts):
    found = {}
    for leap in (0.0, 5.0):
        fine_tune(tmp_path / str(leap), family="bert", settings=dataclasses.replace(settings, leap=leap, epochs=4))
        model, _, _ = load_model(tmp_path / str(leap))
        batch = tiny_tokenizer(tiny_texts, return_tensors="pt", padding=True)
        with torch.no_grad():
            found[leap] = float(depth_distance(model(batch["input_ids"], batch["attention_mask"]).pooled))
    assert found[5.0] < 0.7 * found[0.0]


def test_the_command_line_teaches_and_the_card_says_by_whom(tmp_path, tiny_texts, save_teacher, capsys):
    (tmp_path / "more.txt").write_text("\n".join(tiny_texts))
    words = train_command(tmp_path, tiny_texts, epochs=1)[3:]
    flags = ["--teacher", save_teacher(), "--unlabelled", str(tmp_path / "more.txt"), "--temperature", "3"]
    assert main([*words, *flags]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- teacher: teacher, 0.5 of every loss at temperature 3, and of 8 texts without a label" in card
    capsys.readouterr()
    assert main([*words, "--overwrite", "--unlabelled", str(tmp_path / "more.txt")]) == 2
    assert "nothing to teach without a teacher" in capsys.readouterr().err
