"""Tokens per second of fine-tuning: `elbert train`'s trainer, every exit learning, beside transformers' Trainer.

    python benchmarks/training.py --data CORPORA/sst2 --model mini

Both fine-tune the same encoder, with the same tokenizer, texts, length, batch, optimiser (fused AdamW) and dtype. The
Trainer has the model's own sequence classifier, which learns at the last layer alone, and transformers' choice of
attention; its batches come once at random and once grouped by length. Padding is not counted as tokens. Systems take
turns; the ratio is of each round by itself. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from elbert import TrainSettings, load_data
from elbert.data import TextDataset
from elbert.modeling.quiet import quiet_transformers
from elbert.training import EarlyExitTrainer, schemes, start_model
from elbert.training.encoding import encode
from elbert.training.start import set_dropout
from pretraining import GROUPED, WARM_UP, Clock, Stepped, device, facts

OURS = "elbert train"


def counted(collator: Any, clock: Clock) -> Callable[[Any], Any]:
    """Return the collator, noting how many tokens each batch has."""

    def collate(rows: Any) -> Any:
        batch = collator(rows)
        clock.tokens.append(int(batch["attention_mask"].sum()))
        return batch

    return collate


def arguments(folder: str, settings: TrainSettings, steps: int, **more: Any) -> TrainingArguments:
    """Return what both trainers are given."""
    return TrainingArguments(
        folder,
        max_steps=WARM_UP + steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate or 3e-5,
        bf16=settings.dtype == "bfloat16",
        use_cpu=device().type == "cpu",
        optim="adamw_torch_fused",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        **more,
    )


def measure(system: str, name: str, rows: TextDataset, settings: TrainSettings, steps: int) -> float:
    """Return tokens per second of one system, from the encoder as it is."""
    model, tokenizer = start_model(name, rows, settings)
    settings = settings.resolved(model.config)
    set_dropout(model, settings.dropout, settings.classifier_dropout)
    encoded, clock = encode(rows, model.reader(tokenizer), settings.max_length, progress=False), Clock()
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        if system == OURS:
            scheme = schemes.make(settings.scheme, model.num_layers)
            given = arguments(folder, settings, steps)
            trainer: Trainer = EarlyExitTrainer(model, scheme, given, tokenizer=tokenizer, train_dataset=encoded)
            trainer.data_collator = counted(trainer.data_collator, clock)
        else:
            given = arguments(folder, settings, steps, train_sampling_strategy=system)
            texts: Any = [encoded[row] for row in range(len(encoded))]
            collator = counted(DataCollatorWithPadding(tokenizer), clock)
            trainer = Trainer(model.backbone, given, data_collator=collator, train_dataset=texts)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Stepped(clock))
        trainer.train()
    return clock.speed()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled texts, as `elbert train` takes them")
    parser.add_argument("--model", default="mini", help="what is fine-tuned")
    parser.add_argument("--steps", type=int, default=GROUPED, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    if options.steps % GROUPED:
        raise SystemExit(
            f"--steps {options.steps}: the Trainer's grouping goes from long to short texts within {GROUPED}"
        )
    rows = load_data(options.data, split="train")
    settings = TrainSettings(batch_size=options.batch_size, max_length=options.max_length, dtype=options.dtype)
    systems = (OURS, "random", "group_by_length")
    speeds: dict[str, list[float]] = {system: [] for system in systems}
    for _ in range(options.rounds):
        for system in systems:
            speeds[system].append(measure(system, options.model, rows, settings, options.steps))
    print(f"{'system':<40}{'tokens/s':>10}{'elbert / it':>12}{'range':>16}")
    table = []
    for system, found in speeds.items():
        ratios = [ours / other for ours, other in zip(speeds[OURS], found, strict=True)]
        middle, name = statistics.median(ratios), system if system == OURS else f"transformers Trainer, {system}"
        print(f"{name:<40}{statistics.median(found):>10.0f}{middle:>11.2f}x{min(ratios):>8.2f}–{max(ratios):.2f}x")
        table.append({"system": name, "tokens_per_second": found, "ratios": ratios, "ratio": middle})
    about = {"model": options.model, "data": Path(options.data).name, "batch_size": options.batch_size}
    about |= {"max_length": options.max_length, "dtype": options.dtype, "steps": options.steps}
    print(json.dumps({"benchmark": "training", **facts(), **about, "rows": table}))


if __name__ == "__main__":
    main()
