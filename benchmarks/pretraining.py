"""Tokens per second of masked-word training: `elbert pretrain`'s loop beside transformers' Trainer.

    python benchmarks/pretraining.py --corpus wiki.txt.xz reviews.jsonl.gz

Both train the same ALBERT from random weights, in bf16 unless told otherwise, on the same sequences of the same corpus
with the same tokenizer and as many tokens a step; the Trainer has `AlbertForMaskedLM` and its own collator, once with
batches as they come and once grouped by length. Two kinds of sequences: `full` (all as long as they may be) and
`mixed` (sentences and passages). Padding is not counted as tokens. Systems take turns; the best round counts. Prints a
table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    AlbertForMaskedLM,
    AlbertForPreTraining,
    DataCollatorForLanguageModeling,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from elbert.modeling.quiet import quiet_transformers
from elbert.modeling.tokenizer import train_tokenizer
from elbert.pretraining import PretrainSettings
from elbert.pretraining.batches import Batcher
from elbert.pretraining.corpus import TokenCorpus, tokenize_corpus
from elbert.pretraining.loop import Loop
from elbert.pretraining.optimizer import MasterWeights
from elbert.pretraining.readers import read_documents
from elbert.pretraining.sequences import START, STOP
from elbert.pretraining.student import Student, student_config
from elbert.training.settings import computes_bfloat16

# Steps before the clock starts: the first ones choose kernels and allocate.
WARM_UP = 3
TRAINER_SAMPLING = ("random", "group_by_length")

Measure = Callable[[], float]


class Clock:
    """Counts tokens and takes the time at the end of every step."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.times: list[float] = []

    def step(self) -> None:
        """A step is over."""
        self.times.append(time.perf_counter())

    def speed(self) -> float:
        """Return tokens per second after the warm-up."""
        tokens = self.tokens[WARM_UP : len(self.times)]
        return sum(tokens) / (self.times[-1] - self.times[WARM_UP - 1])


class Stepped(TrainerCallback):
    """Tells a clock that a step of the Trainer is over."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Tell the clock."""
        self.clock.step()


def read_corpus(paths: list[Path], vocabulary: int, documents: int) -> tuple[Any, TokenCorpus]:
    """Return a tokenizer trained on the first documents of each file, and those documents' tokens."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.txt"
        taken = [next(reader, None) for reader in [read_documents(path) for path in paths] for _ in range(documents)]
        texts = ["\n".join(document) for document in taken if document]
        part.write_text("\n\n".join(texts), encoding="utf-8")
        tokenizer = train_tokenizer(texts, vocabulary)
        return tokenizer, tokenize_corpus([part], tokenizer)


def full_length(corpus: TokenCorpus, room: int) -> TokenCorpus:
    """Return the same tokens as documents of one sentence of `room` tokens each."""
    count = len(corpus.tokens) // room
    return TokenCorpus(corpus.tokens[: count * room], np.arange(count + 1) * room, np.arange(count + 1))


def measure_elbert(corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, steps: int) -> float:
    """Return tokens per second of this project's loop."""
    torch.manual_seed(settings.seed)
    network = AlbertForPreTraining(student_config(settings, tokenizer, len(tokenizer)))
    student = Student(network, settings, None).to(device()).train()
    masters = MasterWeights(student, settings, getattr(torch, settings.dtype))
    batcher = Batcher(corpus, tokenizer, settings, settings.max_positions)
    documents = np.arange(1, len(corpus))
    loop = Loop(student, masters, batcher, documents, np.arange(1), settings)
    clock = Clock()

    def stepped() -> bool:
        clock.tokens.append(loop.progress.tokens - sum(clock.tokens))
        clock.step()
        return len(clock.times) >= WARM_UP + steps

    loop.run(lambda _: None, stop=stepped)
    return clock.speed()


def measure_trainer(
    corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, steps: int, sampling: str
) -> float:
    """Return tokens per second of transformers' Trainer on the very same sequences."""
    torch.manual_seed(settings.seed)
    plan = Batcher(corpus, tokenizer, settings, settings.max_positions).plan(np.arange(1, len(corpus)), epoch=0)
    lengths = plan.sequences[:, STOP] - plan.sequences[:, START] + 2
    rows = max(1, round(settings.batch_tokens / float(lengths.mean())))
    ends = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    texts = [[*ends[0], *corpus.tokens[row[START] : row[STOP]].tolist(), *ends[1]] for row in plan.sequences]
    clock = Clock()
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=settings.mask_fraction)

    def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
        clock.tokens.append(sum(len(example["input_ids"]) for example in examples))
        return dict(collate(examples))

    config = student_config(settings, tokenizer, len(tokenizer))
    config._attn_implementation = "sdpa"  # transformers' own default
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        arguments = TrainingArguments(
            folder,
            max_steps=WARM_UP + steps,
            per_device_train_batch_size=rows,
            train_sampling_strategy=sampling,
            learning_rate=settings.learning_rate,
            bf16=settings.dtype == "bfloat16",
            use_cpu=device().type == "cpu",
            optim="adamw_torch_fused",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=settings.seed,
        )
        dataset: Any = [{"input_ids": ids} for ids in texts]
        trainer = Trainer(
            AlbertForMaskedLM(config),
            arguments,
            data_collator=counted,
            train_dataset=dataset,
            callbacks=[Stepped(clock)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.speed()


def device() -> torch.device:
    """Return where both systems compute."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compare(corpus: TokenCorpus, tokenizer: Any, settings: PretrainSettings, options: Any) -> dict[str, list[float]]:
    """Return tokens per second of every system in every round."""
    systems: dict[str, Measure] = {
        "elbert pretrain": lambda: measure_elbert(corpus, tokenizer, settings, options.steps)
    }
    for sampling in TRAINER_SAMPLING:
        systems[f"transformers Trainer, {sampling}"] = lambda sampling=sampling: measure_trainer(
            corpus, tokenizer, settings, options.steps, sampling
        )
    speeds: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(options.rounds):
        for name, measure in systems.items():
            speeds[name].append(measure())
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True, help="text files, as `elbert pretrain` takes")
    parser.add_argument("--documents", type=int, default=2000, help="read so many of each file")
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--dtype", default="bfloat16" if computes_bfloat16() else "float32")
    parser.add_argument("--kinds", nargs="+", choices=("full", "mixed"), default=["full", "mixed"])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", help="other settings, such as layers=24")
    options = parser.parse_args()
    values: dict[str, Any] = {name: int(number) for name, number in (word.split("=") for word in options.set)}
    values |= {"max_length": options.max_length, "batch_tokens": options.batch_tokens, "dtype": options.dtype}
    settings = PretrainSettings.from_dict(
        {"sentence_order": 0.0, "single_sentences": 0.5, "epochs": 1e9, "checkpoint_minutes": 1e9} | values
    )
    tokenizer, corpus = read_corpus(options.corpus, options.vocabulary, options.documents)
    kinds = {"full": lambda: full_length(corpus, options.max_length - 2), "mixed": lambda: corpus}
    print(f"{'sequences':<10}{'system':<40}{'tokens/s':>10}{'ratio':>8}")
    rows = []
    for kind in options.kinds:
        speeds = compare(kinds[kind](), tokenizer, settings, options)
        best = {name: max(found) for name, found in speeds.items()}
        for name, speed in best.items():
            ratio = best["elbert pretrain"] / speed
            print(f"{kind:<10}{name:<40}{speed:>10.0f}{ratio:>7.2f}x", flush=True)
            rows.append({"sequences": kind, "system": name, "tokens_per_second": speed, "rounds": speeds[name]})
    machine = {
        "machine": platform.processor() or platform.machine(),
        "device": str(device()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "vocabulary": len(tokenizer),
        "settings": settings.to_dict(),
    }
    print(json.dumps({"benchmark": "pretraining", **machine, "rows": rows}))


if __name__ == "__main__":
    main()
