"""What a student learns besides its labels: a teacher's answers, to its own texts and to more without a label.

Each exit learns `(1 - a) · CE + a · T² · KL(teacher ‖ exit)` at temperature T (Hinton, Vinyals and Dean, Distilling the
Knowledge in a Neural Network, arXiv 1503.02531); a text without a label learns the second part alone. Holds no loop and
no scheme: those weigh and train what this gives for every exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from elbert.data import Text, TextDataset
from elbert.data.dataset import are_pairs, of_its_kind
from elbert.data.source import fingerprint, short_name
from elbert.errors import UsageError
from elbert.modeling.losses import row_losses
from elbert.results import ProblemType
from elbert.tasks import task_of
from elbert.training.encoding import EncodedDataset, encode
from elbert.training.head_start import ValueUnits
from elbert.training.teachers import Teacher, load_teacher, soft_labels


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a student learns besides its labels.

    Attributes:
        teacher: whose answers; None where the scheme makes something of texts without any.
        unlabelled: texts that have no label, maybe none.
        max_length: tokens the student reads of a text.
    """

    teacher: Teacher | None
    unlabelled: Sequence[Text]
    max_length: int

    def record(self) -> dict[str, Any]:
        """Return what decides the outcome, for `run.json`; a resumed run must have the same."""
        unlabelled = {"rows": len(self.unlabelled), "digest": fingerprint(self.unlabelled, None)[:16]}
        if self.teacher is None:
            return {"unlabelled": unlabelled}
        about = {"name": short_name(self.teacher.name), "digest": self.teacher.digest()}
        return {"teacher": {**about, "unlabelled": unlabelled}}

    def add_to(
        self,
        student: EncodedDataset,
        train: TextDataset,
        tokenizer: Any,
        dtype: str,
        folder: Path,
        units: ValueUnits | None,
        *,
        progress: bool,
    ) -> EncodedDataset:
        """Return the student's texts and behind them those without labels, each with the answer of a teacher's.

        Args:
            student: `train` as the student reads it.
            train: the labelled texts.
            tokenizer: the student's.
            dtype: in which the teacher answers.
            folder: where the answers are kept while the run lasts.
            units: those of the student's labels, where they are values.
            progress: show bars on stderr.

        Raises:
            ModelError, TrainingInterruptedError: as `soft_labels`.
        """
        answers = None
        if self.teacher is not None:
            told = f"teacher {self.teacher.name}"
            texts = list(of_its_kind([*train.texts, *self.unlabelled], self.teacher.pairs, told))
            answers = soft_labels(self.teacher, texts, folder, dtype=dtype, progress=progress)
            if units is not None:
                answers = (answers - units.mean) / units.scale
        more = encode(TextDataset(self.unlabelled), tokenizer, self.max_length, progress=progress)
        first = student.labels[0]
        nothing = [0.0] * len(first) if isinstance(first, (list, tuple)) else 0
        types = None
        if student.token_type_ids is not None:
            types = [*student.token_type_ids, *(more.token_type_ids or [])]
        return EncodedDataset(
            [*student.input_ids, *more.input_ids],
            types,
            [*student.labels, *([nothing] * len(more))],
            student.truncated + more.truncated,
            student.words,
            answers=answers,
            labelled=len(student),
        )


def make_lesson(
    teacher: str | None, unlabelled: TextDataset | None, train: TextDataset, max_length: int, *, alone: bool = False
) -> Lesson | None:
    """Return what a run learns besides its labels, or None where that is nothing.

    Args:
        teacher: its name.
        unlabelled: texts for it alone, or for the scheme.
        train: the student's labelled texts.
        max_length: tokens the student reads.
        alone: texts without a label teach by themselves, for the scheme makes something of them.

    Raises:
        UsageError: texts that teach nothing without a teacher, or not of the kind that `train` holds; or as
            `load_teacher`.
    """
    texts = () if unlabelled is None else unlabelled.texts
    if teacher is None:
        if unlabelled is None:
            return None
        if not alone:
            raise UsageError(
                f"{unlabelled.name} has nothing to teach without a teacher; give one, take a scheme that learns from "
                "such texts (self_distillation), or leave it out"
            )
    if are_pairs((*train.texts, *texts)) is None:
        raise UsageError("single texts and pairs can't be learnt together; give unlabelled texts of the data's kind")
    if train.label_space is None:
        raise UsageError(f"{train.name} has no labels; give a data set that has")
    loaded = None if teacher is None else load_teacher(teacher, train.label_space, max_length)
    return Lesson(loaded, texts, max_length)


def taught_losses(
    logits: Tensor,
    labels: Tensor,
    answers: Tensor,
    labelled: Tensor,
    problem_type: ProblemType,
    *,
    weight: float,
    temperature: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return each exit's own loss, of labels and teacher together, meaned over the batch, computed in fp32.

    Args:
        logits: [B, M, C].
        labels: as in `layer_losses`; anything where there is none.
        answers: [B, C] the teacher's logits, or its value.
        labelled: [B] 1 where the text has a label; the others learn from the teacher alone.
        problem_type: Kullback-Leibler divergence of classes, of every label's yes and no, or squared error.
        weight: a, the teacher's part.
        temperature: T; a value has none.
        class_weights: [C] of the labels' part, as in `row_losses`.

    Returns:
        [M] losses.
    """
    logits, answers = logits.float(), answers.float()[:, None]
    share = torch.where(labelled > 0, weight, 1.0)[:, None]  # [B, 1]
    hard = row_losses(logits, labels, problem_type, class_weights)
    soft = task_of(problem_type).divergence(logits, answers, temperature)
    return ((1 - share) * hard + share * soft).mean(0)
