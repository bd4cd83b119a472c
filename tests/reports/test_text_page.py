"""The page of one text is whole, safe whatever it is given, and says what the trace says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from elbert.classifier import Classifier
from elbert.exits import make
from elbert.reports.attention import cumulative
from elbert.reports.layers import rows
from elbert.reports.text_page import text_page
from elbert.results import Trace
from tests.reports.conftest import EVIL, KINDS
from tests.reports.reader import checked

Build = Callable[..., Classifier]
Traced = Callable[..., Trace]
ROWS = [[0.5, 0.5], [0.3, 0.7], [0.05, 0.95], [0.6, 0.4]]


def data_of(html: str) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[0])


@pytest.mark.parametrize("problem_type", KINDS)
def test_every_problem_type_has_a_page(build: Build, problem_type: str) -> None:
    page = checked(text_page(build(problem_type).trace("a warm and witty story")))
    for word in ("Layer by layer", "Every layer", "attends to", "arXiv:2107.00175", "warm"):
        assert word in page.words


def test_the_page_says_what_the_trace_says(traced: Traced) -> None:
    page = checked(text_page(traced(ROWS), 1, [("model", "mine")]))
    for word in ("good", "after layer 3 of 4", "0.950", "Overthinking mitigated", "exit", "not run", "mine"):
        assert word in page.words
    assert page.words.count("✓ right") == 2  # layers 2 and 3 say good
    assert page.words.count("✗ wrong") == 2


def test_the_line_of_the_exit_runs_behind_the_names_of_the_axes(traced: Traced) -> None:
    html = text_page(traced(ROWS, make("fixed", layer=1)))  # at layer 1 they stand in its way
    line, *names = (html.index(mark) for mark in ('class="exit"', ">probability<", ">normalised entropy<"))
    assert line < min(names)


def test_without_a_label_nothing_is_called_right(traced: Traced) -> None:
    words = checked(text_page(traced(ROWS))).words
    assert "differs from the last layer" in words
    assert "right" not in words.replace("monotone", "")
    assert "Overthinking" not in words


def test_layers_beyond_the_exit_are_told_apart_in_words(traced: Traced) -> None:
    data = data_of(text_page(traced(ROWS)))
    assert data["spoken"] == [
        *("layer 1 of 4", "layer 2 of 4", "layer 3 of 4: the exit"),
        "layer 4 of 4: not run, shown for comparison",
    ]
    assert data["notes"][3].startswith("would leave as no layer is left")


def test_layers_that_the_text_skipped_are_not_told_as_run(traced: Traced) -> None:
    trace = replace(traced(ROWS), skipped=(2,))
    assert data_of(text_page(trace))["spoken"][:3] == [
        *("layer 1 of 4", "layer 2 of 4: skipped, what was said before it stands on", "layer 3 of 4: the exit"),
    ]
    assert [each["kind"] for each in rows(trace, None)] == ["ran", "beyond", "out", "beyond"]


def test_cumulative_attention_is_the_sum_over_depth_as_a_share(build: Build) -> None:
    trace = build().trace("unwarmly film, wonderful")
    shares = cumulative(trace)
    torch.testing.assert_close(shares.sum(1), torch.ones(trace.layers))
    for place, word in enumerate(trace.words):
        expected = trace.attention[:3, list(word.tokens)].sum() / 3
        torch.testing.assert_close(shares[2, place], expected)
    data = data_of(text_page(trace))
    assert data["attention"][2] == [round(10_000 * float(share)) for share in shares[2]]


@pytest.mark.parametrize("pair", [False, True])
def test_nothing_a_user_gives_can_break_out(traced: Traced, tmp_path: Path, pair: bool) -> None:
    text = (EVIL, EVIL) if pair else EVIL
    labels = (EVIL, "</script><b>")
    html = text_page(traced(ROWS, labels=labels, text=text), 1, [(EVIL, EVIL)])
    page = checked(html)
    assert "<script>alert" not in html
    assert 'alert("x")' in page.words
    assert "\x00" not in html
    (tmp_path / "page.html").write_text(html, encoding="utf-8")  # half a surrogate pair would refuse


def test_the_browser_is_told_to_run_this_script_and_no_other(traced: Traced) -> None:
    html = text_page(traced(ROWS))
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)[0]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_all_150_classes_are_there_but_few_are_drawn(traced: Traced) -> None:
    names = tuple(f"class number {number}" for number in range(150))
    rows = torch.softmax(3 * torch.randn(12, 150, generator=torch.Generator().manual_seed(0)), -1).tolist()
    html = text_page(traced(rows, make("full"), labels=names))
    page = checked(html)
    assert all(f"class number {number}" in page.words for number in range(150))
    assert "145 other classes together" in page.words
    assert html.count("<polyline") <= 7
    assert len(html) < 200_000


def test_512_tokens_and_24_layers_stay_a_light_page(traced: Traced) -> None:
    html = text_page(traced([[0.4, 0.6]] * 24, make("full"), text="word " * 511))
    checked(html)
    assert len(html) < 250_000
    assert 'role="region" aria-label="The text"' in html


def test_a_cut_text_shows_what_was_not_read(build: Build) -> None:
    page = checked(text_page(build().trace("warm " * 600 + "THE END")))
    assert "was cut off" in page.words


def test_a_text_that_layer_0_answers_left_before_the_first_layer(traced: Traced) -> None:
    html = text_page(traced(ROWS, make("max_prob", threshold=0.9, words=0.8), words=[0.03, 0.97]), 1)
    page = checked(html)
    assert "good (probability 0.970), before the first layer, by layer 0, its words alone." in page.words
    assert "after layer" not in page.words
    for word in ("exit 0", "threshold 0.8", "Overthinking mitigated", "not run", "Layer 0 says “good”"):
        assert word in page.words
    data = data_of(html)
    assert (data["first"], data["exit"]) == (0, 0)
    assert data["spoken"][:2] == ["layer 0, the words alone: the exit", "layer 1 of 4: not run, shown for comparison"]
    assert data["notes"][0].startswith("leaves: “good”, probability 0.97")
    assert all(note.startswith("would ") for note in data["notes"][1:])
    assert (data["values"][0], data["attention"][0]) == (["0.970", "0.030"], [0, 0, 0])
    assert html.count('data-layer="') == len(data["widths"]) == 5
    assert html.index('<tr data-layer="0" class="out">') < html.index('<tr data-layer="1" class="beyond">')
    assert 'min="0" max="4" step="1" value="0"' in html
    assert '<ol class="top" id="top" aria-label="Words most attended to"></ol>' in html, "nothing was attended to"


def test_a_text_that_goes_on_shows_what_layer_0_said_of_it(traced: Traced) -> None:
    html = text_page(traced(ROWS, make("max_prob", threshold=0.9, words=0.8), words=[0.4, 0.6]))
    words = checked(html).words
    assert "after layer 3 of 4" in words
    assert "goes on: “good”, probability 0.6, threshold 0.8" in words
    assert "part of every exit" not in words


def test_what_layer_0_adds_to_every_exit_is_told(traced: Traced) -> None:
    words = checked(text_page(traced(ROWS, words=[0.4, 0.6], at_exits=1.234))).words
    assert "Layer 0 is part of every exit. 1.23 times what its words say" in words
    assert "the probabilities shown contain it" in words
    assert "after layer 3 of 4" in words


@pytest.mark.parametrize("reach", [0, 1024, 200])
def test_a_long_text_says_who_read_how_much_of_it(worded: Build, reach: int) -> None:
    trace = worded(reach=reach).trace("cold " * 300 + "THE END", policy=make("full", words=0.9))
    html = text_page(trace)
    words = checked(html).words
    assert f"longer than the {len(trace.tokens)} tokens that the encoder reads" in words
    beyond, cut = (re.findall(f'<span class="{name}">(.*?)</span>', html, re.DOTALL) for name in ("words-only", "cut"))
    if reach == 0:
        assert "layer 0 reads no more of it" in words
        assert (beyond, cut[0].strip()[:4]) == ([], "cold")
    elif reach == 200:
        assert "layer 0, the bag of words, reads 200" in words
        assert beyond[0].count("cold") == 200 - len(trace.tokens)
        assert cut[0].strip().startswith("cold")
    else:
        assert "layer 0 read the text to its end" in words
        assert "cut off" not in words
        assert (beyond[0].endswith("THE END"), cut) == (True, [])


def test_where_the_beginning_is_cut_off_that_is_said(build: Build) -> None:
    classifier = build()
    classifier._tokenizer.truncation_side = "left"
    html = text_page(classifier.trace("THE START " + "cold " * 3000 + "warm"))
    words = checked(html).words
    assert "The beginning was not read" in words
    assert re.search(r'<span class="w" data-word="\d+"[^>]*>warm</span>', html), "what was read is what is shaded"


def test_a_text_without_words_has_a_page(build: Build) -> None:
    checked(text_page(build().trace("")))


def test_one_layer_and_one_policy_without_parameters(traced: Traced) -> None:
    page = checked(text_page(traced([[0.2, 0.8]], make("full"))))
    assert "after layer 1 of 1" in page.words
    assert "full" in page.words
