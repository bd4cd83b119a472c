"""The model card: what a trained model is for, how it was made, how well each layer does, and how to load it.

Writes text from what `elbert.json` holds; scores nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from elbert.data.source import short_name
from elbert.tasks import task_of

_BODY = """
# Early-exit text classifier

{opening}

```python
from elbert import Classifier

classifier = Classifier.from_pretrained("this/folder")
classifier.predict("a text")
# Prediction(label=..., score=..., exit_layer=..., layers={layers}, truncated=False)
```

It is an ordinary {architecture} checkpoint: everything that reads those loads it, and runs all {layers} layers.

```python
from transformers import pipeline

pipeline("text-classification", model="this/folder")("a text")
```

## Task

{task}

Texts are read up to {max_length} tokens; the rest is cut off.

## Scores by layer

{metric} on {dev_rows} dev texts ({dev_name}), had every text left at that layer:

| layer | {metric} | loss weight |
|---:|---:|---:|
{rows}
{words}
## Training

- data: {train_rows} texts ({train_name})
- start: {start}{teacher}
- loss scheme: `{scheme}` ({citation}){options}
- weights kept: those of step {best_step} of {steps}, best by the {best_by}
- {settings}

The log of every step is `training_log.jsonl`.

"""

_EXITS = "## Exits\n"


def model_card(backbone: Any, elbert: dict[str, Any]) -> str:
    """Return the text of `README.md`, front matter included.

    Args:
        backbone: the transformers classifier that was trained.
        elbert: content of `elbert.json`.
    """
    config = backbone.config
    return f"---\n{_front_matter(config, elbert)}\n---\n{_body(config, elbert, type(backbone).__name__)}"


def _front_matter(config: Any, elbert: dict[str, Any]) -> str:
    training = elbert["training"]
    data = training["data"]["evaluation"]
    result = EvalResult(
        task_type="text-classification",
        dataset_type=_slug(data["name"]),
        dataset_name=f"{short_name(data['name'])} (dev)",
        metric_type=training["metric"],
        metric_value=round((training.get("encoder_scores") or training["layer_scores"])[-1], 6),
        metric_name=f"{training['metric']} at the last of {config.num_hidden_layers} layers",
    )
    # Only what is surely on the hub may be linked to; a local folder's name would be a dead link.
    hub_data = [_slug(data["name"])] if data["name"].startswith("hub:") else None
    card = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["elbert", "early-exit", config.model_type],
        datasets=hub_data,
        metrics=[training["metric"]],
        model_name=f"{config.model_type}-early-exit",
        eval_results=[result],
    )
    text: str = card.to_yaml()
    return text


def _body(config: Any, elbert: dict[str, Any], architecture: str) -> str:
    training, scheme = elbert["training"], elbert["scheme"]
    scores = enumerate(zip(training["layer_scores"], training["scheme_weights"], strict=True), start=1)
    data, settings = training["data"], training["settings"]
    shown = ("epochs", "batch_size", "learning_rate", "warmup", "weight_decay", "dtype", "seed")
    options = ", ".join(f"{key} {value:g}" for key, value in scheme["options"].items())
    body = _BODY.format(
        opening=_opening(config),
        layers=config.num_hidden_layers,
        architecture=architecture,
        task=_task(config),
        max_length=elbert["max_length"],
        metric=training["metric"],
        dev_rows=training["dev_rows"],
        dev_name=short_name(data["evaluation"]["name"]),
        rows="\n".join(f"| {layer} | {score:.4f} | {weight:.3f} |" for layer, (score, weight) in scores),
        words=_words(training),
        train_rows=training["train_rows"],
        train_name=short_name(data["train"]["name"]),
        start=short_name(training["model"]) if training["model"] else "a model made in code",
        teacher=_teacher(training),
        scheme=scheme["name"],
        citation=scheme["citation"],
        options=f"; {options}" if options else "",
        best_step=training["best_step"],
        steps=training["steps"],
        best_by="last layer's score" if settings["metric_for_best"] == "final" else "mean score over layers",
        settings=", ".join(f"{key.replace('_', ' ')} {settings[key]}" for key in shown),
    )
    return body + _exits(elbert)


def _words(training: dict[str, Any]) -> str:
    """Return the card's paragraph about layer 0 where it is added to the exits, else nothing."""
    if not (alone := training.get("encoder_scores")):
        return ""
    return (
        "\nLayer 0, a bag of the text's words (`words.safetensors`), is added to every exit, and is in these scores.\n"
        f"Other tools do not read it: what they compute scores {alone[-1]:.4f} at the last layer.\n"
    )


def _teacher(training: dict[str, Any]) -> str:
    """Return the card's line about the teacher, or texts without a label; nothing where there was none."""
    if "unlabelled" in training:
        return f"\n- texts without a label, for the exits before the last: {training['unlabelled']['rows']}"
    if "teacher" not in training:
        return ""
    teacher, settings = training["teacher"], training["settings"]
    more = f", and of {rows} texts without a label" if (rows := teacher["unlabelled"]["rows"]) else ""
    return (
        f"\n- teacher: {teacher['name']}, {settings['teacher_weight']:g} of every loss at temperature "
        f"{settings['temperature']:g}{more}"
    )


def with_exits(card: str, elbert: Mapping[str, Any]) -> str:
    """Return a card whose section on exits says what `elbert.json` says now; a card without one is left as it is."""
    before, heading, _ = card.partition(f"\n{_EXITS}")
    return f"{before}\n{_exits(elbert)}" if heading else card


def _exits(elbert: Mapping[str, Any]) -> str:
    """Return the card's last section."""
    saved = ", ".join(f"`{name}`" for name in elbert.get("policies") or ())
    section = f"{_EXITS}\nPolicies saved with the model: {saved}."
    entries = elbert.get("calibration")
    if not entries or not isinstance(entries, dict):
        return f"{section} None is calibrated yet: measure them on texts of your own before you choose a threshold.\n"
    lines = ["| policy | promise | texts | layers of a text | score | at full depth |", "|---|---|---:|---:|---:|---:|"]
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            continue  # evidence of another shape is left out, as everywhere
        digits = {"mean_exit_layer": 2, "score": 4, "full_depth_score": 4}
        numbers = " | ".join(_number(entry.get(key), places) for key, places in digits.items())
        lines.append(f"| `{name}` | {entry.get('note', '–')} | {entry.get('n', '–')} | {numbers} |")
    return f"{section}\n\n" + "\n".join(lines) + "\n\nA promise holds for texts like those it was calibrated on.\n"


def _number(value: object, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, (int, float)) else "–"


def _opening(config: Any) -> str:
    kind = task_of(config.problem_type).gives
    return (
        f"Gives {kind}. Trained with `elbert` so that each of its {config.num_hidden_layers} layers can answer: a text "
        "leaves at the first layer that is sure of it."
    )


def _task(config: Any) -> str:
    return task_of(config.problem_type).offer([config.id2label[index] for index in sorted(config.id2label)])


def _slug(name: str) -> str:
    """Return a source's name as the hub wants data set ids; a local one gets no slash, or it would link somewhere."""
    if name.startswith("hub:"):
        return name.removeprefix("hub:").split(":")[0]
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in short_name(name))
