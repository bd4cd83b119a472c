"""What engine.py measures on: model folders of known shapes with random weights, and real texts by length."""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AlbertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
)

from elbert import load_data
from elbert.modeling.configs import random_config
from elbert.modeling.files.load import load_model
from elbert.modeling.model import MultiExitModel

# What engine.py measures unless it is told otherwise; layers are shared in these, and distinct in those below.
SHAPES = ("albert-base-shape", "albert-large-shape", "mini")
CORPORA = {"short": ("sst2", "dev"), "medium": ("ag_news", "test"), "long": ("imdb", "test")}
SINGLE = "single_label_classification"
LONGEST = 256


def distinct(shape: str, **common: Any) -> Any | None:
    """Return a classifier with random weights of one of the published shapes whose layers are distinct, or None.

    Their sizes are those of MPNet-base and ModernBERT-base, but for the vocabulary.
    """
    if shape == "mpnet-base-shape":
        return MPNetForSequenceClassification(MPNetConfig(**common, max_position_embeddings=514))
    if shape == "modernbert-base-shape":
        marks = {f"{name}_token_id": common["pad_token_id"] for name in ("bos", "eos", "cls", "sep")}
        return ModernBertForSequenceClassification(ModernBertConfig(**common, **marks, classifier_pooling="mean"))
    return None


def model_folder(shape: str, cache: Path, max_length: int = LONGEST) -> Path:
    """Save a model of this shape with the tokenizer of `mini`, once."""
    folder = cache / f"{shape}-{max_length}"
    if not folder.exists():
        torch.manual_seed(0)
        model, tokenizer, elbert = load_model("mini", labels=["0", "1"])
        common = {"vocab_size": len(tokenizer), "num_labels": 2, "pad_token_id": tokenizer.pad_token_id}
        given = distinct(shape, **common, problem_type=SINGLE)
        if given is not None:
            model = MultiExitModel(given)
        elif shape != "mini":
            config = random_config(shape, vocab_size=len(tokenizer), num_labels=2, problem_type=SINGLE)
            model = MultiExitModel(AlbertForSequenceClassification(config))
        model.save_pretrained(folder, tokenizer=tokenizer, elbert={**elbert, "max_length": max_length})
    return folder


def texts_of(kind: str, data: Path, count: int) -> list[str]:
    """Return `count` real texts at equal distances: short, medium, long, or a third of each in turn.

    Where there are fewer, all are used, again and again.
    """
    if kind == "mixed":
        parts = [texts_of(name, data, -(-count // 3)) for name in CORPORA]
        return [text for group in zip(*parts, strict=True) for text in group][:count]
    name, split = CORPORA[kind]
    texts = load_data(str(data / name), split=split).texts
    used = min(count, len(texts))
    chosen = [texts[place * len(texts) // used] for place in range(used)]
    return list(islice(cycle(map(str, chosen)), count))


def texts_of_length(tokens: int, tokenizer: Any, data: Path, count: int) -> list[str]:
    """Return texts of exactly so many tokens, [CLS] and [SEP] included, of words that real texts have."""
    words = sorted({word for text in texts_of("short", data, 500) for word in text.split()})
    single = [word for word in words if len(tokenizer(word)["input_ids"]) == 3]
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(single, tokens - 2)) for _ in range(count)]
