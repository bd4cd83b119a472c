"""What texts made to leave nowhere cost each exit policy, with and without the server's defence.

    python benchmarks/slowdown.py --data CORPORA/sst2
    python benchmarks/slowdown.py --model runs/mine --data reviews.csv --policies elbert,entropy --texts 100 --rounds 8

Half of the labelled texts choose: each policy's setting (the fewest layers that give up at most a point), its ceiling
(the lowest `max_layers` that gives up at most half a point more) and what a key may run in the mean (its own mean times
`--allowance`). The other half is the normal stream, and some of it is attacked: word by word, greedily, the insertion
or replacement is kept that makes the text leave latest, and among equals the one that leaves the exits least sure.
The words come from the texts themselves. After Coalson et al., NeurIPS 2023 (WAFFLE), without gradients: who attacks
needs nothing but answers with their exit layer and probabilities.

Streams then run through a served model, as requests of one key. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import replace
from itertools import cycle, islice
from typing import Any

import numpy as np

from elbert import load_data
from elbert.classifier import Classifier
from elbert.evaluation.bench.machine import machine, versions
from elbert.exits import ExitPolicy, get, replay
from elbert.exits.learned import Learned
from elbert.results import LayerOutputs
from elbert.serving.choices import Wishes
from elbert.serving.metrics import Metrics
from elbert.serving.rows import Answer
from elbert.serving.served import ServedModel
from elbert.serving.settings import ServeSettings
from elbert.tasks import task_of

POLICIES = (
    "elbert,entropy,max_prob,patience,pcee,f_pabee,epee,beem,energy,cap,saturation,certainty,right_tool,past_future,"
    "prototype,predicted_depth,budget"
)

# What a setting, and a ceiling on top of it, may give up, in shares of the texts.
SETTING_DROP, CEILING_DROP = 0.01, 0.005

# Texts of one request of a stream.
TOGETHER = 8


def right(outputs: LayerOutputs, exits: Any, gold: Any) -> float:
    return float((outputs.at(exits).argmax(-1).numpy() == gold).mean())


def chosen(name: str, outputs: LayerOutputs, gold: Any) -> ExitPolicy:
    """Return the policy's setting with the fewest layers that gives up at most SETTING_DROP."""
    layers, classes = outputs.probs.shape[1:]
    full = float((outputs.probs[:, -1].argmax(-1).numpy() == gold).mean())
    kind = get(name)
    fitted = kind().fit(outputs, gold) if issubclass(kind, Learned) else None
    settings = [each.with_tensors(fitted.tensors()) if fitted else each for each in kind.grid(layers, classes)]
    exits = [np.asarray(replay(each, outputs)) for each in settings]
    good = [
        (float(each.mean()), place)
        for place, each in enumerate(exits)
        if right(outputs, each, gold) >= full - SETTING_DROP
    ]
    return settings[min(good, default=(0.0, len(settings) - 1))[1]]


def ceiling(policy: ExitPolicy, outputs: LayerOutputs, gold: Any) -> int:
    """Return the fewest layers that every text may be held to for at most CEILING_DROP."""
    exits, layers = np.asarray(replay(policy, outputs)), outputs.probs.shape[1]
    least = right(outputs, exits, gold) - CEILING_DROP
    return next(cap for cap in range(1, layers + 1) if right(outputs, np.minimum(exits, cap), gold) >= least)


class Attack:
    """Makes texts that leave as late as they can.

    Args:
        classifier: who is attacked.
        policy: what lets texts leave.
        words: to insert or put in the place of others.
        options: rounds, and edits tried in each.
    """

    def __init__(self, classifier: Classifier, policy: ExitPolicy, words: list[str], options: Any) -> None:
        self._classifier, self._policy, self._words, self._options = classifier, policy, words, options
        self._random = np.random.default_rng(options.seed)

    def run(self, texts: list[str]) -> list[str]:
        """Return the texts after the last round; one that runs all layers is left alone."""
        best, scores = list(texts), self._scores(texts)
        for _ in range(self._options.rounds):
            open_ones = [place for place, (layer, _) in enumerate(scores) if layer < self._classifier.num_layers]
            tries = [(place, self._edited(best[place])) for place in open_ones for _ in range(self._options.edits)]
            for (place, text), score in zip(tries, self._scores([text for _, text in tries]), strict=True):
                if score > scores[place]:
                    best[place], scores[place] = text, score
        return best

    def _edited(self, text: str) -> str:
        words = text.split()
        at, word = int(self._random.integers(len(words) + 1)), str(self._random.choice(self._words))
        replaced = at < len(words) and self._random.random() < 0.5
        return " ".join([*words[:at], word, *words[at + replaced :]])

    def _scores(self, texts: list[str]) -> list[tuple[int, float]]:
        if not texts:
            return []
        outputs = self._classifier.record(texts, pooled="pooled" in self._policy.needs)
        exits = np.asarray(replay(self._policy, outputs)).tolist()
        unsure = task_of(outputs.problem_type).normalised_entropy(outputs.probs).mean(-1).tolist()
        return list(zip(exits, unsure, strict=True))


async def stream(classifier: Classifier, texts: list[str], settings: ServeSettings) -> list[Answer]:
    """Return the answers to texts that one key sends, some at a time."""
    served = ServedModel("model", classifier, settings, Metrics())
    answers: list[Answer] = []
    try:
        for start in range(0, len(texts), TOGETHER):
            asked = await served.ask(texts[start : start + TOGETHER], Wishes(), key=0)
            await asked.ticket.done
            answers += [outcome for outcome in asked.ticket.outcomes if isinstance(outcome, Answer)]
    finally:
        await served.close()
    return answers


def measured(classifier: Classifier, texts: list[str], gold: Any, **limits: Any) -> dict[str, float]:
    """Return the layers per text of a stream, and the share of it that was answered right."""
    answers = asyncio.run(stream(classifier, texts, ServeSettings(**limits)))
    labels = np.array([int(np.argmax(answer.probs)) for answer in answers])
    assert len(answers) == len(texts)
    return {"layers": float(np.mean([a.exit_layer for a in answers])), "score": float((labels == gold).mean())}


def row_of(classifier: Classifier, policy: ExitPolicy, halves: Any, words: list[str], options: Any) -> dict[str, Any]:
    """Return what one policy pays."""
    (outputs, chose), (texts, gold) = halves
    cap = ceiling(policy, outputs, chose)
    allowed = max(float(np.asarray(replay(policy, outputs)).mean()) * options.allowance, 1.0)
    victims = [texts[place * len(texts) // options.texts] for place in range(options.texts)]
    attacked = Attack(classifier, policy, words, options).run(victims)
    classifier.policy = policy
    long_gold = np.resize(gold, options.stream)
    normal, hostile = (list(islice(cycle(each), options.stream)) for each in (texts, attacked))
    found: dict[str, Any] = {"policy": policy.to_dict(), "ceiling": cap, "key_layers_per_text": round(allowed, 3)}
    for name, limits in {
        "open": {},
        "ceiling": {"max_layers": cap},
        "budget": {"key_layers_per_text": allowed},
    }.items():
        found[name] = {
            "normal": measured(classifier, normal, long_gold, **limits),
            "attacked": measured(classifier, hostile, np.zeros(options.stream), **limits)["layers"],
        }
    return found


def line_of(found: dict[str, Any]) -> str:
    base = found["open"]["normal"]
    cells = [f"{found['policy']['name']:<16}{base['layers']:>7.2f}{base['score']:>8.3f}"]
    for name in ("open", "ceiling", "budget"):
        each = found[name]
        lost = 100 * (base["score"] - each["normal"]["score"])
        cells.append(f"{each['attacked'] / base['layers']:>9.2f}x" + ("" if name == "open" else f"{lost:>7.2f}"))
    return "".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini-sentiment")
    parser.add_argument("--data", required=True, help="labelled texts")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--policies", default=POLICIES, help="names, with commas")
    parser.add_argument("--texts", type=int, default=40, help="that are attacked")
    parser.add_argument("--rounds", type=int, default=6, help="words changed at most")
    parser.add_argument("--edits", type=int, default=24, help="tried in each round")
    parser.add_argument("--stream", type=int, default=2000, help="texts of a stream, the same ones again and again")
    parser.add_argument("--allowance", type=float, default=1.2, help="what a key may run, in means of normal texts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    classifier = Classifier.from_pretrained(options.model)
    data = load_data(options.data, split=options.split, labels=classifier.labels)
    texts, gold = list(map(str, data.texts)), np.array(data.labels)
    outputs = classifier.record(texts[::2], pooled=True)
    outputs = replace(outputs, words=None)  # layer 0 is left out: what it answers costs next to nothing
    words = sorted({word for text in texts for word in text.split()})
    print(f"{'':<16}{'normal stream':>15}{'attacked':>10}{'under a ceiling':>17}{'with key budgets':>17}")
    cells = f"{'attacked':>10}{'lost':>7}"
    print(f"{'policy':<16}{'layers':>7}{'score':>8}{'':>10}{cells}{cells}")
    rows = []
    for name in options.policies.split(","):
        policy = chosen(name, outputs, gold[::2])
        rows.append(row_of(classifier, policy, ((outputs, gold[::2]), (texts[1::2], gold[1::2])), words, options))
        print(line_of(rows[-1]), flush=True)
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "policies")}
    print(json.dumps({"benchmark": "slowdown", **settings, **machine(), **versions(), "rows": rows}))


if __name__ == "__main__":
    main()
