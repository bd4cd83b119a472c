"""Layer 0 at the end of a training: fitted on the texts learnt from and weighed against the exits."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import EvalPrediction

from elbert.data import TextDataset
from elbert.training.encoding import EncodedDataset
from elbert.training.scores import layer_scores
from elbert.training.settings import TrainSettings
from elbert.training.trainer import EarlyExitTrainer
from elbert.words import WordModel, packed
from elbert.words.fit import FEWEST_TEXTS, fit_at_exits, fit_words

logger = logging.getLogger(__name__)

# The share of texts cut off from which on it is tried, without being asked, whether layer 0 helps the exits.
_MANY_CUT = 0.1

# Standard errors that the gain has to be above then.
_SURE = 2.0


def wants_layer_zero(train: TextDataset, settings: TrainSettings) -> bool:
    """Tell whether layer 0 is to be fitted: it was not refused, and there are classes, and texts enough."""
    classes = 0 if train.label_space is None else len(train.label_space.names)
    return settings.words and classes > 0 and len(train) >= FEWEST_TEXTS


def layer_zero(
    trainer: EarlyExitTrainer, encoded: EncodedDataset, train: TextDataset, settings: TrainSettings
) -> tuple[WordModel | None, tuple[float, ...] | None]:
    """Return layer 0, and the score of every exit on the dev split with it added.

    The first is None where it is not wanted, or there is nothing to fit, the second where it is not added.

    Args:
        trainer: with the model as it will be saved.
        encoded: the texts learnt from; those with labels come first.
        train: the same with their labels.
        settings: of the run.
    """
    if train.label_space is None or not wants_layer_zero(train, settings):
        return None, None
    classes = len(train.label_space.names)
    texts = encoded.read_by_words(range(len(train)))
    words = fit_words(texts, np.asarray(train.labels), classes, seed=settings.seed)
    asked, longer = settings.words_at_exits, sum(place < len(train) for place in encoded.words)
    if asked is False or (asked is None and longer < _MANY_CUT * len(train)):
        return words, None
    return _at_exits(trainer, words, asked=asked)


def _at_exits(
    trainer: EarlyExitTrainer, words: WordModel, *, asked: bool | None
) -> tuple[WordModel, tuple[float, ...] | None]:
    """Return layer 0 with its weight at the exits and their scores; 0 and None where it gains too little unasked."""
    exits, said, targets = _dev_split(trainer, words)
    share = fit_at_exits(exits, said, targets)
    sides = [trainer.task.probabilities(logits) for logits in (exits, exits + np.float32(share) * said[:, None])]
    alone, together = (np.asarray(trainer.task.wrongness(probs, targets), float) for probs in sides)  # [N, M]
    last, gain = (alone - together)[:, -1].mean(), (alone - together).mean(1)
    wrong = f"of the dev split's answers {alone.mean():.4f} are wrong without, {together.mean():.4f} with"
    told = f"weight {share:.2f}; {wrong}"
    if asked:
        logger.info("layer 0 is added to every exit: %s", told)
    elif last < 0 or gain.mean() <= _SURE * gain.std() / len(gain) ** 0.5:
        chance = f"on {len(gain)} dev texts that it helps the exits may be chance"
        logger.info("layer 0 reads more of a long text than the encoder does, but %s: %s", chance, told)
        return words, None
    else:
        leave = "--set words_at_exits=false leaves it out"
        logger.warning("layer 0 reads more of a long text, and is added to every exit: %s; %s", told, leave)
    given = EvalPrediction(trainer.task.decisions(sides[1]), targets)
    scores = layer_scores(given, problem_type=trainer.task.problem_type, metric=trainer.metric)
    layers = range(1, exits.shape[1] + 1)
    return dataclasses.replace(words, at_exits=share), tuple(scores[f"layer_{layer}"] for layer in layers)


@torch.no_grad()
def _dev_split(trainer: EarlyExitTrainer, words: WordModel) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return what is said of the dev split: exits [N, M, C], layer 0 [N, C], and what is right."""
    exits, targets = [], []
    trainer.model.eval()
    for batch in trainer.get_eval_dataloader():
        given = {name: values.to(trainer.args.device) for name, values in batch.items()}
        targets.append(given.pop("labels").cpu().numpy())
        exits.append(trainer.model(**given).logits.float().cpu().numpy())
    dev = trainer.eval_dataset
    texts = dev.read_by_words(trainer._get_eval_sampler(dev))
    return np.concatenate(exits), words.logits(*packed(texts)), np.concatenate(targets)
