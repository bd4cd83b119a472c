"""The texts of the bundled `mini-sentiment`: to learn from, and whole sentences kept aside to calibrate on.

    python benchmarks/sentiment_data.py --data CORPORA --out runs/sentiment

CORPORA holds `sst2`, `imdb` and `pretraining`. Writes train.jsonl, eval.jsonl, calibration.jsonl and unlabelled.txt
into OUT. The training rows of SST-2 are phrases cut from sentences: a sentence kept aside takes every phrase of it out
of what is learnt. Reviews, IMDB's training part and those that nobody has rated, are for a teacher to label: a sentence
of each at most, or a few in a row. No dev or test text of any data set is read.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from elbert import load_data

NAMES = ("negative", "positive")
SEED = 0
# A row of SST-2 with so many words is taken to be a sentence, not a phrase of one.
SENTENCE_WORDS = 12
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Row = dict[str, str]


def sentences(review: str) -> list[str]:
    """Return a review's sentences of 4 to 60 words, in order."""
    found = SENTENCE_END.split(" ".join(re.sub(r"<br\s*/?>", " ", review).split()))
    return [sentence for sentence in found if 4 <= len(sentence.split()) <= 60]


def passages(reviews: Iterable[str], count: int, seed: int) -> list[str]:
    """Return `count` passages, spread evenly over the reviews: one sentence, or one in eight times 2 to 8 in a row."""
    dice, divided = random.Random(seed), [found for found in map(sentences, reviews) if found]
    taken: dict[str, None] = {}
    while len(taken) < count:
        for found in dice.sample(divided, min(len(divided), count - len(taken))):
            length = dice.randint(2, 8) if dice.random() < 1 / 8 else 1
            start = dice.randrange(max(len(found) - length, 0) + 1)
            taken[" ".join(found[start : start + length])] = None
    return list(taken)


def apart(rows: list[tuple[str, int]], count: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return (learn, kept): `count` sentences kept aside, and the rows that are no part of any of them."""
    whole = [row for row in rows if len(row[0].split()) >= SENTENCE_WORDS]
    kept = random.Random(SEED).sample(whole, count)
    inside = "\n".join(text.strip() for text, _ in kept)
    return [row for row in rows if row[0].strip() not in inside], kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with sst2 and imdb")
    parser.add_argument("--out", type=Path, default=Path("runs/sentiment"))
    parser.add_argument("--calibration", type=int, default=1000, help="sentences of SST-2's training part kept aside")
    parser.add_argument("--eval", type=int, default=500, help="more of them, to choose a checkpoint by")
    parser.add_argument("--passages", type=int, default=100_000, help="passages of reviews without a label")
    parser.add_argument("--seed", type=int, default=SEED, help="of the choice of passages, and of nothing else")
    options = parser.parse_args()
    sst2 = load_data(options.data / "sst2", split="train")
    rows = [(str(text), int(label)) for text, label in zip(sst2.texts, sst2.labels, strict=True)]
    learn, kept = apart(rows, options.calibration + options.eval)
    rated = load_data(options.data / "imdb", split="train").texts
    with gzip.open(options.data / "pretraining" / "imdb-unsup.jsonl.gz", "rt", encoding="utf-8") as file:
        found = passages(
            chain(map(str, rated), (json.loads(line)["text"] for line in file)), options.passages, options.seed
        )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", learn), ("eval", kept[: options.eval]), ("calibration", kept[options.eval :])):
        lines = (json.dumps({"text": text.strip(), "label": NAMES[label]}) for text, label in part)
        (options.out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(part)} texts, {sum(label for _, label in part) / len(part):.3f} positive")
    (options.out / "unlabelled.txt").write_text("\n".join(found) + "\n", encoding="utf-8")
    print(f"unlabelled: {len(found)} passages, {sum(len(text.split()) for text in found)} words")


if __name__ == "__main__":
    main()
