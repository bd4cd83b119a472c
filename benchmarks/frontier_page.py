"""The page of the frontier, made of records: the verdict first, then a figure and a table a corpus."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frontier_figure import picture
from frontier_ground import Ground
from frontier_records import LEVELS, OURS, Line

# What counts as "no worse": than the best row that was fine-tuned and runs to full depth; and as clearly better than
# TF-IDF.
NEAR, AHEAD = 0.005, 0.02

# The levels of which one has to reach that.
_FAST = ("drop-1", "drop-2")

_PUBLISHED = Path(__file__).with_name("published.toml")

_HEAD = (
    "row", "dtype", "{metric}", "macro F1", "rarest", "mean exit layer", "p50 ms", "p95 ms", "p99 ms", "texts/s",
    "core s", "MB",
)  # fmt: skip

_MODEL2VEC = "model2vec is not in the tables: its weights could not be had offline, and untrained it is nothing."

_INTRO = """# The frontier

*Written by `benchmarks/frontier.py` from its records; not by hand.*

Accuracy against texts per second, ours beside what people pick.

"""

_HOW = """
## How it was measured

- **All training rows** of each corpus.
  `elbert train` with no flag holds a tenth of them out; exits are calibrated on that tenth, and so are the penalty of
  every logistic regression (refitted on all rows) and the threshold of the cascade.
  Nothing was chosen on the texts reported on.
- *ours, full depth* is that training; *drop-X* is the level of the ladder that promises to lose less than X points,
  with and without layer 0, calibrated in the precision it runs in.
  A dagger marks a level where no test passed, so that it runs to full depth.
- *ours + words* is the same training with `--set words_at_exits=true`: layer 0 is added to every exit, and its full
  depth is the sum.
- *mean exit layer* counts layer 0 at what it costs, in layers of the same precision.
- *rarest* is the recall of the class of the fewest training rows; where several are as rare, the mean over them.
- MiniLM is all-MiniLM-L6-v2, fine-tuned with AdamW at {rate:g} for three epochs, its last layer alone; int8 is dynamic
  in ONNX Runtime and NNCF's in OpenVINO.
  The cascade lets TF-IDF answer above the lowest threshold that lost at most 0.01 on the rows held out.
- *the first layers of ours* are trained without exits for as many layer passes as ours.
- p50, p95 and p99 are of texts one by one; texts/s with {batch} in flight, runs of some seconds, a process for every
  line, in turns, the median of {rounds} rounds, on {threads} threads of {cpu}.
  Ours runs in a heat a precision, the rivals in every heat.
- *core s* are seconds of one core for training, choosing included; ours trains every exit.
- *MB* is what lies on the disk for a deployment.
- Encoders read {length} of a text, TF-IDF all of it.
- {model2vec}

```sh
python benchmarks/frontier.py --data CORPORA --minilm MINILM_FOLDER --out runs/frontier --docs docs
```
"""


# What every corpus is to be raced against, by row.
_RIVALS = {
    "tfidf": "TF-IDF of words",
    "chars": "TF-IDF of words and characters",
    "frozen": "frozen MiniLM",
    "minilm": "fine-tuned MiniLM",
    "cascade": "the cascade",
    "first": "the first layers of ours",
}


@dataclass(frozen=True)
class Verdict:
    """How ours stands on one corpus.

    Attributes:
        front: whether no other row has both more accuracy and more texts/s than the line named.
        near: whether it is near enough to the best fine-tuned row, or far enough above TF-IDF.
        line: the line of ours that stands for it.
        why: in words.
        absent: rivals that were not timed.
        tied: whether a better row is as fast, as far as the rounds can tell.
    """

    front: bool
    near: bool
    line: Line
    why: str
    absent: tuple[str, ...] = ()
    tied: bool = False

    @property
    def won(self) -> bool:
        """Whether the corpus counts."""
        return self.front and self.near


def verdict(lines: Sequence[Line], times: Mapping[str, Any]) -> Verdict | None:
    """Return how ours stands, or None where it was not timed.

    The line that stands for ours is its fastest at drop-1 or drop-2 that keeps both conditions; where none does, the
    one that misses by least: on the front first, then by its score.

    Args:
        lines: of one corpus.
        times: by name.
    """
    rates = {line.key: (times.get(line.key) or {}).get("texts_per_second") for line in lines}
    timed = [line for line in lines if rates[line.key]]
    ours = [line for line in timed if line.row in OURS and line.level in _FAST]
    rivals = [line for line in timed if line.row not in OURS]
    if not ours or not rivals:
        return None
    tuned = max((line.score for line in lines if line.row == "minilm" or line.level == "full"), default=0.0)
    bag = max((line.score for line in lines if line.row in ("tfidf", "chars")), default=0.0)
    absent = tuple(name for row, name in _RIVALS.items() if row not in {each.row for each in rivals})
    judged = []
    for line in ours:
        mine = rates[line.key]
        above = [each for each in rivals if each.score > line.score and rates[each.key] > mine]
        near = line.score >= tuned - NEAR or line.score >= bag + AHEAD
        best = max(above, key=lambda each: each.score, default=None)
        why = f"{line.score:.3f} beside {tuned:.3f} of the best fine-tuned row and {bag:.3f} of TF-IDF"
        why += "" if best is None else f"; {best.name} ({best.dtype}) is faster and better"
        level = [each for each in rivals if each.score > line.score and each not in above and _tied(line, each, times)]
        why += "".join(f"; {each.name} ({each.dtype}) is better, and level in speed: a tie" for each in level)
        places = not above and near, not above, near, mine if not above and near else line.score
        judged.append((places, Verdict(not above, near, line, why, absent, bool(level))))
    return max(judged, key=lambda each: each[0])[1]


def _tied(one: Line, other: Line, times: Mapping[str, Any]) -> bool:
    """Tell whether the rounds of two lines may overlap: medians closer than half of what their rounds range over."""
    (mine, my_spread), (theirs, their_spread) = (
        (times[line.key]["texts_per_second"], times[line.key].get("spread") or 0.0) for line in (one, other)
    )
    return bool(abs(mine - theirs) <= (mine * my_spread + theirs * their_spread) / 2)


def write_page(grounds: Sequence[Ground], lines: Mapping[str, list[Line]], docs: Path) -> None:
    """Write `frontier.md` and a figure a corpus.

    Args:
        grounds: in order.
        lines: by corpus; one without lines is left out.
        docs: folder.
    """
    docs.mkdir(parents=True, exist_ok=True)
    published = tomllib.loads(_PUBLISHED.read_text(encoding="utf-8"))
    parts, verdicts, about = [], {}, {}
    for ground in grounds:
        name, found = ground.corpus.name, lines[ground.corpus.name]
        if not found:
            continue
        record = _times(ground)
        times = record.get("lines", {})
        about |= record
        verdicts[ground.corpus.title] = verdict(found, times)
        figure = f"frontier-{name}.svg"
        timed = bool(times)
        if timed:
            (docs / figure).write_bytes(picture(found, times, published.get(name, ()), metric_of(ground)))
        parts.append(section(ground, found, record, published.get(name, ()), figure if timed else None))
    if not parts:
        raise SystemExit("frontier.py: there are no records yet: run the scores first")
    text = _INTRO + summary(verdicts) + "".join(parts) + _how(about, grounds, lines)
    (docs / "frontier.md").write_text(text, encoding="utf-8")


def summary(verdicts: Mapping[str, Verdict | None]) -> str:
    """Return on how many corpora ours is on the front, and where it is not, first of all."""
    judged = {title: each for title, each in verdicts.items() if each is not None}
    if not judged:
        return "Nothing is timed yet: scores only.\n"
    lost = {title: each for title, each in judged.items() if not each.won}
    said = f"**On {len(judged) - len(lost)} of {len(judged)} corpora ours is on the front**"
    said += " and near the best fine-tuned row, or clearly above TF-IDF.\n" if not lost else ".\n"
    tied = [title for title, each in judged.items() if each.won and each.tied]
    said += "" if not tied else f"Of these a tie: {', '.join(tied)}.\n"
    absent = {title: each.absent for title, each in judged.items() if each.absent}
    if absent:
        said += "\n**Not every rival has been run yet**, so this may still change:\n\n"
        said += "".join(f"- {title}: without {', '.join(names)}.\n" for title, names in absent.items()) + "\n"
    if lost:
        said += "Where it is not:\n\n" + "".join(f"- {title}: {_missed(each)}.\n" for title, each in lost.items())
    rows = [
        f"| {title} | {each.line.name}, {each.line.dtype} | {_tick(each.front)} | {_tick(each.near)} | {each.why} |\n"
        for title, each in judged.items()
    ]
    head = "\n| corpus | ours | on the front | near or ahead | |\n|---|---|---|---|---|\n"
    rule = (
        "\n*On the front*: no row but ours has both more accuracy and more texts/s; *a tie*: a better row is as fast, "
        f"as far as the rounds can tell. *Near or ahead*: within {NEAR} of "
        f"the best row that is fine-tuned and runs to full depth, or {AHEAD} above TF-IDF. The row of ours is the "
        "fastest calibrated one, at `drop-1` or `drop-2`, that keeps both.\n"
    )
    return said + head + "".join(rows) + rule


def section(
    ground: Ground, lines: Sequence[Line], record: Mapping[str, Any], published: Any, figure: str | None
) -> str:
    """Return one corpus: figure, table, and what others published."""
    metric, times = metric_of(ground), record.get("lines", {})
    title, rows = ground.corpus.title, f"{len(ground.train):,} training rows, {len(ground.test):,} reported on"
    note = f"{ground.corpus.note}\n" if ground.corpus.note else ""
    said = f"\n## {title}\n\n{rows}.\n{note}\n" + (
        f"![{title}: {metric} by texts per second]({figure})\n\n" if figure else ""
    )
    head = [cell.format(metric=metric) for cell in _HEAD]
    said += f"| {' | '.join(head)} |\n|---|---|{'---:|' * (len(head) - 2)}\n"
    for line in lines:
        said += f"| {' | '.join(cells(line, times, record.get('words_us'), lines))} |\n"
    gains = [f"{dtype} {gain:.2f}×" for dtype, gain in gains_of_words(lines, times).items()]
    if gains:
        said += f"\nAt `drop-1`, texts/s with layer 0 over texts/s without: {', '.join(gains)}.\n"
    if published:
        each = [f"{one['name']} {one['value']:.3f} ({one['note']})" for one in published]
        said += f"\nPublished by others, not run here: {'; '.join(each)}.\n"
    return said


def gains_of_words(lines: Sequence[Line], times: Mapping[str, Any]) -> dict[str, float]:
    """Return how many times faster ours is with layer 0 than without at `drop-1`, by precision, where both ran."""
    rates = {
        (line.dtype, line.words): (times.get(line.key) or {}).get("texts_per_second")
        for line in lines
        if line.row == OURS[0] and line.level == _FAST[0]
    }
    pairs = {dtype: (rates[dtype, True], rates.get((dtype, False))) for dtype, words in rates if words}
    return {dtype: on / off for dtype, (on, off) in pairs.items() if on and off}


def cells(line: Line, times: Mapping[str, Any], words_us: float | None, lines: Sequence[Line]) -> list[str]:
    """Return the cells of one line."""
    found = times.get(line.key) or {}
    mark = "" if line.level not in LEVELS or line.guaranteed else " †"
    note = f" ({line.note})" if line.note else ""
    reason = f": {found['reason']}" if found.get("reason") else ""
    return [
        line.name + mark + note + reason,
        line.dtype,
        f"{line.score:.3f}",
        f"{line.f1_macro:.3f}",
        _number(line.rarest_recall, ".3f"),
        _number(depth(line, times, words_us, lines), ".2f"),
        *(_number(found.get(name), ".2f") for name in ("p50_ms", "p95_ms", "p99_ms")),
        _number(found.get("texts_per_second"), ",.0f"),
        _number(line.core_seconds, ",.0f"),
        f"{line.size_mb:,.1f}",
    ]


def depth(line: Line, times: Mapping[str, Any], words_us: float | None, lines: Sequence[Line]) -> float | None:
    """Return the mean exit layer; where layer 0 is on, with what it costs a text in layers of that precision."""
    if line.mean_exit_layer is None or not (line.policy or {}).get("words") or words_us is None:
        return line.mean_exit_layer
    full = next((each for each in lines if (each.level, each.row, each.dtype) == ("full", line.row, line.dtype)), None)
    rate = (times.get(full.key) or {}).get("texts_per_second") if full else None
    return line.mean_exit_layer + (words_us * 1e-6 * rate * (line.layers or 1) if rate else 0.0)


def metric_of(ground: Ground) -> str:
    """Return the name of the corpus's metric."""
    task = ground.train.label_space.task if ground.train.label_space else None
    return (ground.corpus.metric or (task.metrics[0] if task else "")).replace("_", " ")


def _how(about: Mapping[str, Any], grounds: Sequence[Ground], lines: Mapping[str, list[Line]]) -> str:
    asked = next((_record(ground, line.row)["asked"] for ground in grounds for line in lines[ground.corpus.name]), {})
    cpu = (about.get("machine") or {}).get("cpu", "–")
    facts = {"batch": about.get("batch_size", "–"), "rounds": about.get("rounds", "–"), "cpu": cpu}
    rate = asked.get("minilm_rate", 0.0)
    titles: dict[int, list[str]] = {}
    for ground in grounds:
        titles.setdefault(ground.max_length, []).append(ground.corpus.title)
    length = ", ".join(f"{tokens} tokens ({', '.join(names)})" for tokens, names in sorted(titles.items()))
    return _HOW.format(**facts, threads=about.get("threads", "–"), rate=rate, length=length, model2vec=_MODEL2VEC)


def _times(ground: Ground) -> dict[str, Any]:
    path = ground.out / "times.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _record(ground: Ground, row: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ground.out / f"{row}.json").read_text(encoding="utf-8"))
    return record


def _missed(each: Verdict) -> str:
    short = [] if each.near else ["neither near the best fine-tuned row nor clearly above TF-IDF"]
    return "; ".join([*([] if each.front else ["not on the front"]), *short, each.why])


def _tick(good: bool) -> str:
    return "yes" if good else "**no**"


def _number(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)
