from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from elbert.evaluation.evaluate import Evaluation
from elbert.evaluation.report import Example, Picture, Report, render, summary
from elbert.evaluation.story import depth_curve, pictures_of
from elbert.exits import make

pytest.importorskip("matplotlib")

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Reads a page; notes ids, links, words, and every tag that is not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif tag == "a" and name == "href":
                self.links.append(value or "")
            else:
                self.attributes.append((name, value or ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def result() -> Evaluation:
    return Evaluation(
        n=1200,
        metric="accuracy",
        score=0.9,
        full_depth_score=0.91,
        layers=4,
        mean_exit_layer=2.0,
        layer_speedup=2.0,
        seconds=1.0,
        full_depth_seconds=1.8,
        speedup=1.8,
        engine_efficiency=0.9,
        exit_histogram=(200, 900, 0, 100),
        policy=make("elbert").to_dict(),
        backend="torch",
        dtype="float32",
        device="cpu",
        batch_size=32,
        threads=2,
        repeats=3,
    )


@pytest.fixture
def report(result: Evaluation) -> Report:
    return Report(
        title="Reviews",
        lead="Some reviews.",
        evaluation=result,
        pictures=pictures_of(result, depth_curve(result, [0.7, 0.8, 0.9, 0.91], [])),
        examples=[
            Example("a good film", "pos (0.98)", 1, 4, right=True),
            Example("hm", "neg (0.51)", 4, 4, right=False),
        ],
        facts=[("model", "mine")],
        notes=["Mind this."],
    )


def test_the_page_is_well_formed_and_its_ids_are_all_different(report: Report) -> None:
    page = Page(render(report))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for name, value in page.attributes:
        for target in re.findall(r"url\(#([^)]+)\)", value) + ([value[1:]] if name == "xlink:href" else []):
            assert target in page.ids


def test_the_page_needs_nothing_beside_itself(report: Report) -> None:
    html = render(report)
    page = Page(html)
    assert page.links == ["https://arxiv.org/abs/2107.00175"]
    assert re.findall(r"https?://[^\"<]*", html) == page.links
    assert {"script", "link", "img", "iframe"}.isdisjoint(page.tags)
    assert "@import" not in html
    assert "@font-face" not in html
    assert not any(name == "src" for name, _ in page.attributes)


def test_the_page_tells_numbers_notes_facts_and_examples(report: Report) -> None:
    words = Page(render(report)).words
    for word in ("Reviews", "1,200", "0.9000", "2.00 of 4", "1.80×", "Mind this.", "mine", "a good film", "pos (0.98)"):
        assert word in words


def test_the_page_is_readable_on_a_phone_in_light_and_in_dark(report: Report) -> None:
    html = render(report)
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    svg = html[html.index("<svg") : html.rindex("</svg>")]
    assert re.findall(r"#[0-9a-f]{6}", svg) == []  # every colour of the pictures follows the theme
    assert "var(--exits)" in svg


def test_pictures_say_in_words_what_they_show(report: Report) -> None:
    html = render(report)
    assert html.count('role="img" aria-label="') == 2


def test_whatever_comes_from_data_is_escaped(report: Report) -> None:
    evil = '<script>alert("x")</script>&$title'
    html = render(
        replace(
            report,
            title=evil,
            lead=evil,
            examples=[Example(evil, evil, 1, 4)],
            facts=[(evil, evil)],
            notes=[evil],
            pictures=[Picture(report.pictures[0].svg, evil, "one")],
        )
    )
    page = Page(html)
    assert "script" not in page.tags
    assert page.words.count(evil) >= 8


def test_long_examples_are_cut(report: Report) -> None:
    html = render(replace(report, examples=[Example("x" * 100_000, "pos", 1, 4)]))
    assert len(html) < 100_000
    assert "…" in html


def test_no_examples_leave_the_section_out(report: Report) -> None:
    assert "how far they had to go" not in render(replace(report, examples=[]))


def test_a_policy_of_no_parameters_is_named_alone(result: Evaluation) -> None:
    assert dict(summary(replace(result, policy=make("full").to_dict())))["policy"] == "full"
