"""Layer 0 at the end of a training: fitted on the texts learnt from and, where asked for, weighed against the exits."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import torch

from elbert.data import TextDataset
from elbert.training.encoding import EncodedDataset
from elbert.training.settings import TrainSettings
from elbert.training.trainer import EarlyExitTrainer
from elbert.words import WordModel
from elbert.words.fit import FEWEST_TEXTS, fit_at_exits, fit_words

logger = logging.getLogger(__name__)


def layer_zero(
    trainer: EarlyExitTrainer, encoded: EncodedDataset, train: TextDataset, settings: TrainSettings
) -> WordModel | None:
    """Return layer 0; None where it is not wanted, or there is nothing to fit.

    Args:
        trainer: with the model as it will be saved.
        encoded: the texts learnt from; those with labels come first.
        train: the same with their labels.
        settings: of the run.
    """
    if not settings.words or train.label_space is None or len(train) < FEWEST_TEXTS:
        return None
    if not (classes := len(train.label_space.names)):  # values
        return None
    words = fit_words(encoded.input_ids[: len(train)], np.asarray(train.labels), classes, seed=settings.seed)
    if not settings.words_at_exits:
        return words
    share = _share(trainer, words)
    logger.info("layer 0 is added to every exit with weight %.2f, fitted on the dev split", share)
    return dataclasses.replace(words, at_exits=share)


@torch.no_grad()
def _share(trainer: EarlyExitTrainer, words: WordModel) -> float:
    """Return how much of layer 0 to add to the exits, from the dev split."""
    exits, said, targets = [], [], []
    trainer.model.eval()
    for batch in trainer.get_eval_dataloader():
        given = {name: values.to(trainer.args.device) for name, values in batch.items()}
        targets.append(given.pop("labels").cpu().numpy())
        exits.append(trainer.model(**given).logits.float().cpu().numpy())
        real = batch["attention_mask"].bool().cpu()
        said.append(words.logits(batch["input_ids"].cpu()[real].numpy(), real.sum(1).numpy()))
    return fit_at_exits(np.concatenate(exits), np.concatenate(said), np.concatenate(targets))
