"""The pages in a real browser: quiet, alone, readable on a phone, and usable without a mouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from elbert.classifier import Classifier
from elbert.data import TextDataset
from elbert.exits import make
from elbert.reports.run_page import report_of, run_page
from elbert.reports.text_page import text_page
from elbert.results import Trace
from tests.browsing import browser
from tests.reports.conftest import EVIL

__all__ = ["browser"]  # a fixture, shared with the tests of the server's page

Traced = Callable[..., Trace]
ROWS = [[0.5, 0.5], [0.3, 0.7], [0.05, 0.95], [0.6, 0.4]]
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1100, "height": 800}


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`opened(html, scheme, size)`: the page in the browser; afterwards it must have said and asked for nothing."""
    said: list[str] = []
    contexts: list[Any] = []
    path = tmp_path / "page.html"

    def show(html: str, scheme: str = "light", size: dict[str, int] = DESK, **options: Any) -> Any:
        path.write_text(html, encoding="utf-8")
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: said.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert [words for words in said if words != "data:,"] == []


@pytest.fixture(scope="module")
def pages(traced: Traced, build: Callable[..., Classifier], dataset: Callable[..., TextDataset]) -> dict[str, str]:
    """The pages every reader may meet, the hard ones among them."""
    many = tuple(f"a_class_with_a_long_name_{number}" for number in range(150))
    rows = torch.softmax(4 * torch.randn(24, 150, generator=torch.Generator().manual_seed(0)), -1).tolist()
    words = " ".join(["antidisestablishmentarianism", "of", "x" * 80, "film"] * 128)
    classifier = build()
    classifier.policy = make("elbert", threshold=0.95, window=2)
    return {
        "text": text_page(traced(ROWS, make("elbert", threshold=0.5, window=2)), 1),
        "many": text_page(traced(rows, make("full"), labels=many, text=words)),
        "evil": text_page(traced(ROWS, labels=(EVIL, f"{EVIL}2"), text=(EVIL, EVIL * 20)), 1, [(EVIL, EVIL)]),
        "values": text_page(
            traced([[1.5], [2.5], [2.6]], make("fixed", layer=2), labels=(), problem_type="regression"), 2.0
        ),
        "words": text_page(traced(ROWS, make("max_prob", threshold=0.9, words=0.8), words=[0.03, 0.97]), 1),
        "run": run_page(report_of(classifier, dataset(), title="Reviews", lead="Some reviews.")),
    }


@pytest.mark.parametrize("name", ["text", "many", "evil", "values", "run"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_phone_or_asks_for_anything(
    opened: Any, pages: dict[str, str], name: str, scheme: str
) -> None:
    page = opened(pages[name], scheme, PHONE)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.title()


@pytest.mark.parametrize("name", ["text", "run"])
def test_light_and_dark_follow_the_system_and_the_button(opened: Any, pages: dict[str, str], name: str) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light, dark = (opened(pages[name], scheme).evaluate(colour) for scheme in ("light", "dark"))
    assert light != dark
    page = opened(pages[name], "dark")
    button = page.get_by_role("button", name="Theme")
    shown = []
    for _ in range(3):
        button.press("Enter")
        shown.append((button.inner_text(), page.evaluate(colour)))
    assert shown == [("Theme: light", light), ("Theme: dark", dark), ("Theme: automatic", dark)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["text", "run"])
def test_words_stand_out_from_what_is_behind_them(opened: Any, pages: dict[str, str], name: str, scheme: str) -> None:
    page = opened(pages[name], scheme)
    ratios = page.evaluate(_CONTRAST)
    assert min(ratios.values()) >= 4.5, ratios


# The contrast of every named colour that words are written in, by WCAG's formula, on the page and on its panels.
_CONTRAST = """() => {
  const style = getComputedStyle(document.documentElement);
  const channel = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const bright = (hex) => {
    const [r, g, b] = [1, 3, 5].map((at) => channel(parseInt(hex.slice(at, at + 2), 16) / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = {};
  for (const behind of ["--page", "--panel"])
    for (const name of ["--ink", "--soft", "--good", "--bad", "--s0", "--s1", "--s2", "--s3", "--s4"]) {
      const pair = [behind, name].map((each) => bright(style.getPropertyValue(each).trim())).sort((a, b) => b - a);
      found[name + " on " + behind] = (pair[0] + 0.05) / (pair[1] + 0.05);
    }
  return found;
}"""


def test_the_exit_is_shown_first_and_arrow_keys_move_through_the_layers(opened: Any, pages: dict[str, str]) -> None:
    page = opened(pages["text"])
    slider = page.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "layer 3 of 4: the exit"
    before = page.locator("[data-share] .value").all_inner_texts()
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#where").inner_text() == "layer 2 of 4"
    assert page.locator("[data-share] .value").all_inner_texts() == ["0.700", "0.300"] != before
    assert page.locator("tr.here").get_attribute("data-layer") == "2"
    page.keyboard.press("End")
    assert page.locator("#where").inner_text() == "layer 4 of 4: not run, shown for comparison"
    assert "would" in page.locator("#why").inner_text()


def test_the_rows_of_the_table_can_be_reached_and_chosen_by_keyboard(opened: Any, pages: dict[str, str]) -> None:
    page = opened(pages["text"])
    page.get_by_role("button", name="Show layer 1", exact=True).focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("slider").input_value() == "1"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.get_by_role("slider").input_value() == "3"
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Show layer 3"
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"


def test_a_text_that_layer_0_answers_starts_there_and_its_layers_follow(opened: Any, pages: dict[str, str]) -> None:
    page = opened(pages["words"], size=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    slider, values = page.get_by_role("slider"), page.locator("[data-share] .value")
    assert slider.get_attribute("aria-valuetext") == "layer 0, the words alone: the exit"
    assert (values.first.inner_text(), page.locator("#top li").count()) == ("0.970", 0)
    slider.focus()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "layer 4 of 4: not run, shown for comparison"
    assert (values.first.inner_text(), page.locator("#top li").count()) == ("0.400", 2)


def test_everything_that_can_be_used_can_be_reached_with_the_tab_key(opened: Any, pages: dict[str, str]) -> None:
    page = opened(pages["text"])
    wanted = page.evaluate("document.querySelectorAll('button, summary, input, a[href]').length")
    seen = set()
    for _ in range(wanted + 12):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("(document.activeElement.id || '') + document.activeElement.outerHTML.slice(0, 120)"))
    reached = [words for words in seen if any(f"<{tag}" in words for tag in ("button", "summary", "input", "a "))]
    assert len(reached) >= wanted


def test_every_control_and_picture_has_a_name(opened: Any, pages: dict[str, str]) -> None:
    for name in ("text", "run"):
        page = opened(pages[name])
        nameless = page.evaluate("""() => [...document.querySelectorAll('button, summary, input, svg[role=img], th')]
            .filter((each) => !(each.getAttribute('aria-label') || each.textContent.trim() || each.labels?.length))
            .map((each) => each.outerHTML.slice(0, 80))""")
        assert nameless == []


def test_shading_follows_the_chosen_layer(opened: Any, build: Callable[..., Classifier]) -> None:
    trace = build().trace("a warm and witty story told with great care", policy="full")
    page = opened(text_page(trace))
    shades = "[...document.querySelectorAll('.w')].map((each) => each.style.getPropertyValue('--a'))"
    last = page.evaluate(shades)
    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    first = page.evaluate(shades)
    assert first != last
    assert max(map(float, first)) == max(map(float, last)) == 1.0


def test_without_a_script_the_page_shows_the_exit(browser: Any, opened: Any, pages: dict[str, str]) -> None:
    page = opened(pages["text"], java_script_enabled=False)
    assert page.locator("#walk").is_hidden()
    assert page.locator("#theme").is_hidden()
    assert page.locator("[data-share] .value").all_inner_texts() == ["0.950", "0.050"]


def test_folded_parts_open_with_the_keyboard(opened: Any, pages: dict[str, str]) -> None:
    page = opened(pages["run"])
    summary = page.locator("details.text summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.text").first.get_attribute("open") is not None
    assert page.locator("details.text .facts").first.is_visible()
