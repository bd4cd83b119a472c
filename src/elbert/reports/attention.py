"""What [CLS] attends to, word by word and layer by layer: the text shaded, the words most looked at, and a table.

The measure is the ELBERT paper's: attention from [CLS] to each token, averaged over heads, summed over depth. A word
has the sum of its pieces. Shown as shares: divided by the number of layers summed, a depth's tokens add up to 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elbert.reports.filters import shortened
from elbert.results import Trace
from elbert.tracing.patterns import answers_by_layer

TOP = 8
_ROWS = 14

# Words and gaps, and characters behind them, beyond which the text scrolls by itself: chart and slider stay near.
_LONG = 240
_LONG_BEYOND = 1000


def cumulative(trace: Trace) -> Tensor:
    """Return each word's share of what [CLS] gave up to a layer, [stages, words]; rows add up to 1, layer 0's is 0."""
    depth = torch.arange(1, trace.layers + 1).unsqueeze(1)
    tokens = trace.attention.cumsum(0) / depth
    shares = torch.stack([tokens[:, list(word.tokens)].sum(1) for word in trace.words], 1)
    return shares if trace.layer_0 is None else torch.cat([torch.zeros_like(shares[:1]), shares])


def script_data(trace: Trace) -> dict[str, Any]:
    """Return the shares in whole 1/10000, words and special tokens apart."""
    shares = cumulative(trace)
    special = [place for place, word in enumerate(trace.words) if word.half is None]
    return {
        "top": TOP,
        "attention": (shares * 10_000).round().int().tolist(),
        "special": (shares[:, special].sum(1) * 10_000).round().int().tolist(),
    }


def reading(trace: Trace) -> list[dict[str, Any]]:
    """Return each half of the text in pieces: between words, words with their shade at the exit, and what is behind.

    A piece is (text, place of the word or None, shade from 0 to 1). Behind the words
    stands what layer 0 alone read, then what nobody did.
    """
    shares = _at_exit(trace)
    most = max((share for share, word in zip(shares, trace.words, strict=True) if word.half is not None), default=1.0)
    halves = (trace.text,) if isinstance(trace.text, str) else trace.text
    blocks = []
    for half, text in enumerate(halves):
        pieces: list[tuple[str, int | None, float]] = []
        done = 0
        for place, word in enumerate(trace.words):
            if word.half == half:
                pieces.append((text[done : word.start], None, 0.0))
                pieces.append((text[word.start : word.end], place, shares[place] / (most or 1.0)))
                done = max(done, word.end)
        title = ("Text", "Its pair")[half] if len(halves) == 2 else ""
        ends = done if trace.layer_0 is None or trace.layer_0.end is None else trace.layer_0.end
        beyond, rest = text[done:ends], shortened(text[ends:], 400)
        long = len(pieces) > _LONG or len(beyond) > _LONG_BEYOND
        blocks.append({"title": title, "pieces": pieces, "beyond": beyond, "cut": rest.strip() and rest, "long": long})
    return blocks


def who_read(trace: Trace) -> tuple[str, str] | None:
    """Return title and words on who read how much of a text that was longer than the encoder reads; else None."""
    if not trace.truncated:
        return None
    first = next((word for word in trace.words if word.half == 0), None)
    halves = (trace.text,) if isinstance(trace.text, str) else trace.text
    cut = "beginning" if first is not None and halves[0][: first.start].strip() else "end"
    encoder = f"The text is longer than the {len(trace.tokens):,} tokens that the encoder reads"
    words = trace.layer_0
    if words is None or words.end is None:
        nobody = "" if words is None else ", and layer 0 reads no more of it"
        return f"The {cut} was not read", f"{encoder}{nobody}. What stands in grey was cut off."
    read = f"layer 0, the bag of words, reads {words.tokens:,}. What the encoder did not read is underlined"
    if halves[0][words.end :].strip():
        return "The end was not read", f"{encoder}; {read}, what nobody read stands in grey."
    return "The encoder did not read the end", f"{encoder}; {read}: layer 0 read the text to its end."


def top_words(trace: Trace) -> dict[str, Any]:
    """Return the words most looked at up to the exit, and the special tokens; the script follows the chosen layer."""
    shares = _at_exit(trace)
    special = [(word.text, share) for word, share in zip(trace.words, shares, strict=True) if word.half is None]
    return {
        "words": [(trace.words[place].text, shares[place]) for place in _order(trace, shares)[:TOP] if shares[place]],
        "special": list(dict.fromkeys(name for name, _ in special)),
        "special_share": sum(share for _, share in special),
    }


def _at_exit(trace: Trace) -> list[float]:
    """Return each word's share up to the layer where the text leaves; 0 where that is before the first."""
    shares: list[float] = cumulative(trace)[trace.stages.index(trace.exit_layer)].tolist()
    return shares


def _order(trace: Trace, shares: list[float]) -> list[int]:
    places = [place for place, word in enumerate(trace.words) if word.half is not None]
    return sorted(places, key=lambda place: (-shares[place], place))


def build_up(trace: Trace) -> dict[str, Any] | None:
    """Return the table of cumulative attention by depth, under the answer of every layer; None without a word."""
    shares = cumulative(trace)[-trace.layers :]
    places = _order(trace, shares[max(trace.exit_layer, 1) - 1].tolist())[:_ROWS]
    if not places:
        return None
    most = float(shares[:, places].max()) or 1.0
    return {
        "answers": answers_by_layer(trace),
        "rows": [
            (trace.words[place].text, [(share, share / most) for share in shares[:, place].tolist()])
            for place in sorted(places)
        ],
    }
