"""What [CLS] attends to, word by word and layer by layer: the text shaded, the words most looked at, and a table.

The measure is the ELBERT paper's: attention from [CLS] to each token, averaged over heads, summed over depth. A word
has the sum of its pieces. Shown as shares: divided by the number of layers summed, a depth's tokens add up to 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elbert.reports import html
from elbert.results import Trace
from elbert.tracing.answers import answers_by_layer

TOP = 8
_ROWS = 14

# Words and gaps beyond which the text scrolls by itself, so that chart and slider stay near.
_LONG = 240


def cumulative(trace: Trace) -> Tensor:
    """Return each word's share of all that [CLS] gave up to a layer, [M, words]; rows add up to 1."""
    depth = torch.arange(1, trace.layers + 1).unsqueeze(1)
    tokens = trace.attention.cumsum(0) / depth
    return torch.stack([tokens[:, list(word.tokens)].sum(1) for word in trace.words], 1)


def script_data(trace: Trace) -> dict[str, Any]:
    """Return the shares in whole 1/10000, words and special tokens apart."""
    shares = cumulative(trace)
    special = [place for place, word in enumerate(trace.words) if word.half is None]
    return {
        "top": TOP,
        "attention": (shares * 10_000).round().int().tolist(),
        "special": (shares[:, special].sum(1) * 10_000).round().int().tolist(),
    }


def reading(trace: Trace, *, small: bool = False) -> str:
    """Return the text with every word shaded by its share at the exit, and what the model did not read in grey."""
    shares = cumulative(trace)[trace.exit_layer - 1].tolist()
    most = max((share for share, word in zip(shares, trace.words, strict=True) if word.half is not None), default=1.0)
    halves = (trace.text,) if isinstance(trace.text, str) else trace.text
    blocks = []
    for half, text in enumerate(halves):
        inner, done = [], 0
        for place, word in enumerate(trace.words):
            if word.half != half:
                continue
            inner.append(html.words(text[done : word.start]))
            alpha = shares[place] / (most or 1.0)
            shown = html.words(text[word.start : word.end])
            inner.append(f'<span class="w" data-word="{place}" style="--a:{alpha:.3f}">{shown}</span>')
            done = max(done, word.end)
        rest = html.shortened(text[done:], 400)
        if rest.strip():
            inner.append(f'<span class="cut">{html.words(rest)}</span>')
        if len(halves) == 2:
            blocks.append(f'<p class="half">{("Text", "Its pair")[half]}</p>')
        kind = "reading small" if small else "reading"
        long = ' long" tabindex="0" role="region" aria-label="The text' if len(inner) > _LONG else ""
        blocks.append(f'<div class="{kind}{long}" dir="auto">{"".join(inner)}</div>')
    return "".join(blocks)


def top_words(trace: Trace) -> str:
    """Return the words most looked at up to the exit; the script follows the chosen layer."""
    shares = cumulative(trace)[trace.exit_layer - 1].tolist()
    items = "".join(
        f"<li>{html.isolated(trace.words[place].text)}<b>{html.words(html.percent(shares[place]))}</b></li>"
        for place in _order(trace, shares)[:TOP]
    )
    special = sum(share for share, word in zip(shares, trace.words, strict=True) if word.half is None)
    names = ", ".join(dict.fromkeys(word.text for word in trace.words if word.half is None))
    return (
        f'<ol class="top" id="top" aria-label="Words most attended to">{items}</ol><p class="soft">Special tokens '
        f'({html.words(names)}) take <b id="special" class="number">{html.words(html.percent(special))}</b>.</p>'
    )


def _order(trace: Trace, shares: list[float]) -> list[int]:
    places = [place for place, word in enumerate(trace.words) if word.half is not None]
    return sorted(places, key=lambda place: (-shares[place], place))


def build_up(trace: Trace, letters: dict[str, str]) -> str:
    """Return the table of cumulative attention by depth, under the answer of every layer.

    Args:
        trace: of one text.
        letters: a mark for an answer, ready HTML; other answers get a dot.
    """
    shares = cumulative(trace)
    places = _order(trace, shares[trace.exit_layer - 1].tolist())[:_ROWS]
    if not places:
        return ""
    most = float(shares[:, places].max()) or 1.0
    said = answers_by_layer(trace.probs, trace.labels, trace.problem_type)
    kinds = [_kind(trace, layer) for layer in range(1, trace.layers + 1)]
    head = "".join(f'<th scope="col"{kind}>{layer}</th>' for layer, kind in enumerate(kinds, start=1))
    marks = "".join(
        f'<td{kind} style="--a:0">{letters.get(words, "·" if trace.labels else html.words(words))}</td>'
        for words, kind in zip(said, kinds, strict=True)
    )
    rows = []
    for place in sorted(places):
        cells = "".join(
            f'<td{kind} style="--a:{share / most:.2f}">{100 * share:.1f}</td>'
            for share, kind in zip(shares[:, place].tolist(), kinds, strict=True)
        )
        name = html.isolated(html.shortened(trace.words[place].text, 24))
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    return (
        '<div class="scroll" role="region" aria-label="Cumulative attention by depth, in per cent" tabindex="0">'
        f'<table class="heat"><thead><tr><th scope="col">layer</th>{head}</tr></thead><tbody>'
        f'<tr><th scope="row">answer</th>'
        f"{marks}</tr>{''.join(rows)}</tbody></table></div>"
    )


def _kind(trace: Trace, layer: int) -> str:
    if layer == trace.exit_layer:
        return ' class="out"'
    return ' class="beyond"' if layer > trace.exit_layer else ""
