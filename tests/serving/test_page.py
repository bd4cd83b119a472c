"""The page: its files for everybody, and in a real browser what sliders, keys and texts make of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from elbert.classifier import Classifier
from elbert.exits import get, make, names
from elbert.serving.ladder import dial
from elbert.serving.routes.docs import PAGES
from elbert.serving.routes.page import FILES
from tests.browsing import browser
from tests.serving.conftest import TEXTS, Running, Start

__all__ = ["browser"]  # a fixture, shared with the tests of reports

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1100, "height": 900}
EVIL = "<img src=x onerror=alert(1)> good & <b>bad</b>"


def test_every_file_comes_without_a_key_and_shows_nothing_of_a_model(start: Start) -> None:
    with start(api_keys=("a-key",)) as running:
        for path, (_, kind) in FILES.items():
            said = running.client.get(path, headers={"authorization": ""})
            assert (said.status_code, said.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
            assert "tiny" not in said.text
        for path in ("/docs", "/openapi.json"):
            assert running.client.get(path, headers={"authorization": ""}).status_code == 200
        assert running.client.get("/info", headers={"authorization": ""}).status_code == 401


def test_the_files_name_each_other_and_nothing_from_elsewhere_or_inline() -> None:
    assert {file for file, _ in FILES.values()} == {path.name for path in PAGES.iterdir()} - {"docs.html.jinja"}
    page = (PAGES / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)  # the policy of the page forbids it
    for path in PAGES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}
        asked = re.findall(r"(?:src|href)=\"(/[^\"]*)\"|from \"\.(/[^\"]*)\"", text)
        assert {one or other for one, other in asked} <= {*FILES, "/docs", "/openapi.json"}
        assert "innerHTML" not in text


@pytest.mark.parametrize("name", names())
def test_every_setting_of_a_dial_is_a_policy_and_they_run_from_slow_to_fast(name: str) -> None:
    policy = get(name).grid(12, 3)[0]
    found = dial(policy, 12, 3)
    if found is None:
        return
    settings = [policy.from_dict({**policy.to_dict(), found["name"]: value}) for value in found["values"]]
    assert len(set(settings)) == len(found["values"]) >= 2


def test_the_dial_of_elberts_rule_is_its_threshold_and_full_depth_has_none() -> None:
    assert dial(make("full"), 12, 2) is None
    found = dial(make("elbert", window=3), 12, 2)
    assert found is not None
    assert found["name"] == "threshold"
    assert found["values"] == sorted(found["values"])
    found = dial(make("elbert", window=3, criterion="range"), 12, 1)
    assert found is not None
    assert found["name"] == "tolerance"


@pytest.fixture(scope="module")
def server(start: Start) -> Iterator[Running]:
    with start() as running:
        yield running


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """`opened(running, size)`: the page, its first texts answered; afterwards it must have complained of nothing."""
    said: list[str] = []
    contexts: list[Any] = []

    def show(running: Running, size: dict[str, int] = DESK, scheme: str = "light", *, wait: bool = True) -> Any:
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        home = f"http://127.0.0.1:{running.port}"
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("console", lambda message: said.append(message.text) if "401" not in message.text else None)
        page.on("request", lambda request: said.append(request.url) if not request.url.startswith(home) else None)
        page.goto(home)
        if wait:
            page.locator("#answers li").first.wait_for()
            page.locator("#verdict b").wait_for()
        return page

    yield show
    for context in contexts:
        context.close()
    assert [words for words in said if words != "data:,"] == []


def strip(page: Any, layer: int) -> Any:
    return page.get_by_role("img", name=f"Leaves at layer {layer} of 4")


def test_a_text_is_answered_as_the_library_does_and_sliders_change_where_it_leaves(
    server: Running, opened: Callable[..., Any], offline: Classifier
) -> None:
    page = opened(server)
    page.get_by_label("Text", exact=True).fill("a very good film")
    expected = offline.predict("a very good film")
    strip(page, 2).wait_for()
    page.locator("#reading span", has_text="very").first.wait_for()
    assert page.locator("#verdict").inner_text().startswith(f"{expected.label} ({100 * expected.score:.1f} %)")
    assert page.locator(".cell.out b").inner_text() == "2"
    assert page.locator(".cell.beyond").count() == 2
    level = page.get_by_label("Speed level")
    assert (level.input_value(), level.get_attribute("aria-valuetext")) == ("1", "quick")
    level.focus()
    page.keyboard.press("ArrowLeft")
    strip(page, 4).wait_for()
    page.locator(".bar span", has_text="4 of 4").first.wait_for()
    assert page.locator(".cell.beyond").count() == 0


def test_the_dial_moves_the_exits_and_the_point_on_the_curve(server: Running, opened: Callable[..., Any]) -> None:
    page = opened(server)
    page.locator("#curve .dot").nth(3).wait_for()  # all four depths were tried
    before = float(page.locator("#curve .now").get_attribute("cx"))
    slider = page.get_by_label("Layer", exact=True)
    slider.focus()
    page.keyboard.press("End")
    strip(page, 1).wait_for()
    page.locator(".bar span", has_text="1 of 4").first.wait_for()
    assert float(page.locator("#curve .now").get_attribute("cx")) < before
    assert slider.get_attribute("aria-valuetext") == "1"
    assert "run 1.0 of 4 layers" in page.locator("#curve-says").inner_text()


def test_the_counters_are_the_servers(server: Running, opened: Callable[..., Any]) -> None:
    page = opened(server)
    server.client.post("/predict", json={"inputs": TEXTS})
    page.locator("#rate", has_text=re.compile("[1-9]")).wait_for()
    assert 1 <= float(page.locator("#depth").inner_text()) <= 4
    assert re.fullmatch(r"[\d.]+ %", page.locator("#saved").inner_text())


def test_layer_0_is_told(start: Start, good_words: Callable[[], Classifier], opened: Callable[..., Any]) -> None:
    with start({"tiny": good_words}) as running:
        page = opened(running)
        page.get_by_label("Text", exact=True).fill("good good")
        strip(page, 0).wait_for()
        assert page.locator("#verdict").inner_text().startswith("pos (")
        assert "by its words alone" in page.locator("#verdict").inner_text()
        assert "probability" in page.locator("#zero").inner_text()
        page.get_by_label("Text", exact=True).fill("so so")
        strip(page, 4).wait_for()
        assert "goes on" in page.locator("#zero").inner_text()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_and_no_text_is_read_as_html(
    server: Running, opened: Callable[..., Any], scheme: str
) -> None:
    page = opened(server, PHONE, scheme)
    page.get_by_label("Text", exact=True).fill(EVIL * 20)
    page.get_by_label("One text a line").fill(f"{EVIL}\n{'x' * 400}")
    page.locator("#answers bdi", has_text="x" * 400).wait_for()
    page.locator("#reading", has_text="onerror").wait_for()
    assert page.locator("main img").count() == 0
    page.get_by_text("What the rule found").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_key_is_asked_for_and_used(start: Start, opened: Callable[..., Any]) -> None:
    with start(api_keys=("a-key",)) as running:
        page = opened(running, wait=False)
        page.get_by_label("This server wants a key").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("brings no key").wait_for()
        page.get_by_label("This server wants a key").fill("a-key")
        page.keyboard.press("Enter")
        page.locator("#answers li").first.wait_for()
        assert page.locator("#unlock").is_hidden()
        page.close()


def test_everything_can_be_reached_with_the_tab_key_and_has_a_name(server: Running, opened: Callable[..., Any]) -> None:
    page = opened(server)
    all_of_them = "[...document.querySelectorAll('a, input, select, textarea, summary, button')]"
    shown = f"{all_of_them}.filter((e) => e.checkVisibility())"
    wanted = page.evaluate(f"{shown}.length")
    seen = set()
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert len(seen - {""}) >= wanted
    nameless = f"{shown}.filter((e) => !e.textContent.trim() && !e.labels?.length).length"
    assert page.evaluate(nameless) == 0
