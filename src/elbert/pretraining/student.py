"""The network in training: transformers' ALBERT, its two heads, a readout towards the teacher, and one loss.

It owns transformers' own modules; only the order of things is decided here and in `forward.py`, so that the masked-word
head sees masked places alone and the teacher is asked once a batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AlbertConfig, AlbertForPreTraining

from elbert.pretraining.batches import Batch
from elbert.pretraining.forward import embed, hidden_states
from elbert.pretraining.objectives import IGNORED, layer_pairs, masked_word_loss, sentence_distance, token_distance
from elbert.pretraining.settings import PretrainSettings
from elbert.pretraining.teacher import Teacher

# How the bundled encoders are fine-tuned best, layers that share their weights and layers of their own: the peak rate,
# and how many times that the heads'.
SHARED_LAYERS_RATES, DISTINCT_LAYERS_RATES = (3e-4, 1.0), (1e-4, 5.0)


def student_config(settings: PretrainSettings, tokenizer: Any, words: int) -> AlbertConfig:
    """Return the ALBERT configuration of a run.

    Args:
        settings: the shape.
        tokenizer: for its special tokens.
        words: rows of the word table, at least `len(tokenizer)`.
    """
    rate, head_rate = SHARED_LAYERS_RATES if settings.hidden_groups == 1 else DISTINCT_LAYERS_RATES
    return AlbertConfig(
        vocab_size=words,
        embedding_size=settings.embedding_size,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_hidden_groups=settings.hidden_groups,
        num_attention_heads=settings.attention_heads,
        intermediate_size=settings.intermediate_size,
        hidden_act=settings.hidden_act,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        max_position_embeddings=settings.max_positions,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        fine_tuning_learning_rate=rate,
        fine_tuning_head_rate=head_rate,
    )


class Student(nn.Module):
    """ALBERT with the heads it is trained through.

    Args:
        network: the ALBERT.
        settings: weights of the objectives.
        teacher: whom to learn from, where there is distillation.
    """

    def __init__(self, network: AlbertForPreTraining, settings: PretrainSettings, teacher: Teacher | None) -> None:
        super().__init__()
        self.network, self.settings, self.teacher = network, settings, teacher
        # The configuration's classifier dropout is meant for fine-tuning; here it would only disturb reproducibility.
        network.sop_classifier.dropout.p = settings.dropout
        hidden = network.config.hidden_size
        width = teacher.hidden_size if teacher else hidden
        self.readout = nn.Parameter(torch.eye(width, hidden))
        # Hidden states of another width than the teacher's are compared through one more matrix.
        self.bridge = None if width == hidden else nn.Parameter(torch.eye(width, hidden))

    @property
    def encoder(self) -> Any:
        """Return the `AlbertModel`."""
        return self.network.albert

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (loss, parts): parts holds the unweighted loss of each objective, detached.

        The parts are `masked_words`, `sentence_order`, and for distillation `tokens`, `sentence` and, where it counts,
        `leap`.
        """
        settings = self.settings
        places = None if settings.distillation else self._places(batch)
        hidden = hidden_states(self.encoder, batch.masked_ids, batch.token_types, places)
        weighted: dict[str, tuple[float, Tensor]] = {}
        if settings.masked_words:
            labels = batch.labels if places is None else batch.labels.flatten()[places]
            weighted["masked_words"] = (
                settings.masked_words,
                masked_word_loss(self.network.predictions, hidden[-1], labels),
            )
        if settings.sentence_order:
            first = hidden[-1][:, 0] if places is None else hidden[-1][places % batch.ids.shape[1] == 0]
            order = self.network.sop_classifier(torch.tanh(self.encoder.pooler(first)))
            weighted["sentence_order"] = settings.sentence_order, F.cross_entropy(order.float(), batch.swapped)
        if settings.distillation and self.teacher:
            target = self.teacher.hidden_states(batch.ids, batch.token_types)
            weighted["tokens"] = settings.distillation, self._tokens(batch, hidden, target, self.teacher)
            firsts = [state[:, 0] for state in hidden[1:]]
            weighted["sentence"] = settings.distillation * settings.sentence_vector, self._sentence(firsts, target)
            if settings.leap:
                means = [state.mean(dim=1) for state in hidden[1:]]
                weighted["leap"] = settings.distillation * settings.leap, self._sentence(means, target)
        total = torch.stack([weight * loss for weight, loss in weighted.values()]).sum()
        return total, {name: loss.detach() for name, (_, loss) in weighted.items()}

    def _places(self, batch: Batch) -> Tensor:
        """Return [P] the places, counted through the whole batch, whose last state the objectives read."""
        read = batch.labels != IGNORED
        if not self.settings.masked_words:
            read = torch.zeros_like(read)
        if self.settings.sentence_order:
            read[:, 0] = True
        return read.flatten().nonzero().squeeze(1)

    def _tokens(self, batch: Batch, hidden: list[Tensor], target: tuple[Tensor, ...], teacher: Teacher) -> Tensor:
        """Return the mean token distance over matched layers, embeddings included."""
        embedded = self._across(embed(self.encoder, batch.ids, batch.token_types, batch.shift))
        distances = [token_distance(embedded, teacher.embed(batch.ids, batch.token_types, batch.shift))]
        # [CLS] is left to the sentence distance, for which every layer answers.
        first = 1 if self.settings.sentence_vector else 0
        for mine, theirs in layer_pairs(len(hidden) - 1, len(target) - 1):
            distances.append(token_distance(self._across(hidden[mine][:, first:]), target[theirs][:, first:]))
        return torch.stack(distances).mean()

    def _sentence(self, vectors: list[Tensor], target: tuple[Tensor, ...]) -> Tensor:
        """Return the sentence distance of every layer's vector [B, H], read through the pooler all exits will share."""
        pooled = [torch.tanh(self.encoder.pooler(vector)) for vector in vectors]
        return sentence_distance(pooled, self.readout, target[-1].mean(dim=1))

    def _across(self, hidden: Tensor) -> Tensor:
        return hidden if self.bridge is None else F.linear(hidden, self.bridge)
