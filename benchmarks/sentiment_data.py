"""The texts of the bundled `mini-sentiment`: to learn from, and whole sentences kept aside to calibrate on.

    python benchmarks/sentiment_data.py --data CORPORA --out runs/sentiment

CORPORA holds `sst2` and `imdb`. Writes train.jsonl, eval.jsonl and calibration.jsonl into OUT. The training rows of
SST-2 are phrases cut from sentences: a sentence kept aside takes every phrase of it out of what is learnt. Of IMDB's
training reviews the last sentence is taken, which says what the review thinks. No dev or test text of any data set is
read.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

from elbert import load_data

NAMES = ("negative", "positive")
SEED = 0
# A row of SST-2 with so many words is taken to be a sentence, not a phrase of one.
SENTENCE_WORDS = 12
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Row = dict[str, str]


def last_sentence(review: str) -> str:
    """Return the last sentence of 5 to 40 words; empty where there is none."""
    sentences = SENTENCE_END.split(re.sub(r"<br\s*/?>", " ", review).strip())
    fitting = [sentence for sentence in sentences if 5 <= len(sentence.split()) <= 40]
    return fitting[-1] if fitting else ""


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
    parser.add_argument("--reviews", type=int, default=16_000, help="last sentences taken from IMDB's training part")
    options = parser.parse_args()
    sst2 = load_data(options.data / "sst2", split="train")
    rows = [(str(text), int(label)) for text, label in zip(sst2.texts, sst2.labels, strict=True)]
    learn, kept = apart(rows, options.calibration + options.eval)
    imdb = load_data(options.data / "imdb", split="train")
    reviews = [(last_sentence(str(text)), int(label)) for text, label in zip(imdb.texts, imdb.labels, strict=True)]
    learn += random.Random(SEED).sample([row for row in reviews if row[0]], options.reviews)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", learn), ("eval", kept[: options.eval]), ("calibration", kept[options.eval :])):
        lines = (json.dumps({"text": text.strip(), "label": NAMES[label]}) for text, label in part)
        (options.out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(part)} texts, {sum(label for _, label in part) / len(part):.3f} positive")


if __name__ == "__main__":
    main()
