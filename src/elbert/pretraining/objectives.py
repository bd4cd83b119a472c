"""What a student learns from: masked words, sentence order, and the distance to a teacher.

B sequences of L tokens, H hidden units, M student layers, K teacher layers, V words.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# A plain cosine forgets the length of a vector; a little squared error keeps it.
SQUARED_ERROR_WEIGHT = 0.1
IGNORED = -100


def layer_pairs(student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Match layers evenly: teacher layer k with student layer round(k · M / K), so the last with the last.

    With more teacher than student layers, the teacher's are thinned out instead.
    """
    if teacher_layers <= student_layers:
        return [(round(k * student_layers / teacher_layers), k) for k in range(1, teacher_layers + 1)]
    return [(m, round(m * teacher_layers / student_layers)) for m in range(1, student_layers + 1)]


def token_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over tokens of `1 - cosine + 0.1 · mean squared error`.

    Args:
        student: [tokens, H].
        teacher: [tokens, H].
    """
    student, teacher = student.float(), teacher.float()
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean() + SQUARED_ERROR_WEIGHT * F.mse_loss(
        student, teacher
    )


def sentence_distance(pooled: list[Tensor], readout: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over layers of `1 - cosine(readout · pooled, teacher's mean)`.

    Of `[CLS]` it makes that gather the sentence from the first layer on, read through the pooler that every exit will
    share; of the mean over tokens it pulls every depth to what the last one says (LEAP, arXiv 2605.01058).

    Args:
        pooled: M tensors [B, H], the pooled `[CLS]` or the pooled mean of each layer.
        readout: [H of the teacher, H].
        teacher: [B, H of the teacher] mean over tokens of the teacher's last hidden state.
    """
    predicted = F.linear(torch.stack(pooled), readout).float()  # [M, B, H]
    return (1 - F.cosine_similarity(predicted, teacher.float()[None], dim=-1)).mean()


def masked_word_loss(head: Any, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the masked words; only masked places meet the vocabulary.

    Args:
        head: transformers' `AlbertMLMHead`.
        hidden: [B, L, H] last hidden state.
        labels: [B, L] the word that was there, -100 where nothing is masked.
    """
    places = labels != IGNORED
    if not places.any():
        return hidden.sum() * 0.0
    return F.cross_entropy(head(hidden[places]).float(), labels[places])
