"""The page as a browser takes it: nothing from outside, nothing that runs, valid ids, and hostile text as text."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from score_distill.artifacts.store import Store
from score_distill.report import Facts, gather, page
from score_distill.report.facts import Curves

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`$x^2$ {{ 7*7 }} \x1b[31m\u202e"


class Reader(HTMLParser):
    """Collects tags, attributes and ids, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def html(finished: Facts) -> str:
    return page(finished)


def test_the_page_is_whole_and_fetches_and_runs_nothing(html: str) -> None:
    reader = read(html)
    assert "script" not in reader.tags and "iframe" not in reader.tags and "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    links = {value for name, value in reader.attributes if name in ("src", "href", "xlink:href", "action")}
    assert {link for link in links if not link.startswith("#")} == {"data:,", "report.json"}
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    assert "default-src 'none'" in html


def test_every_chart_has_a_name_for_those_who_cannot_see_it_and_its_numbers(html: str) -> None:
    reader = read(html)
    labels = [value for name, value in reader.attributes if name == "aria-label"]
    assert reader.tags.count("svg") == sum(name == "role" and value == "img" for name, value in reader.attributes)
    assert any(label.startswith("Scores on ledger: base") for label in labels)
    assert reader.tags.count("figure") == reader.tags.count("figcaption") == 14
    assert reader.tags.count("table") >= 13


def test_a_curve_of_zeros_is_no_chart(finished: Facts) -> None:
    still = tuple(point | {"kl": 0.0} for point in finished.curves.rl)
    html = page(Facts(run=finished.run, answer="", curves=Curves(rl=still)))
    assert "RL: entropy" in html
    assert "RL: KL" not in html


def test_ids_are_unique_and_every_reference_has_its_target(finished: Facts) -> None:
    other = {
        name: tuple(one.model_copy(update={"eval": "other"}) for one in getattr(finished, name))
        for name in ("scores", "comparisons", "accuracy_by_length", "endings")
    }
    both = {name: getattr(finished, name) + rows for name, rows in other.items()}
    html = page(finished.model_copy(update=both))
    assert html.count("<h3>What can be told apart</h3>") == 2
    ids = [value for name, value in read(html).attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r"url\(#([^)]*)\)", html)) | set(re.findall(r'href="#([^"]*)"', html)) <= set(ids)


def test_colours_follow_the_theme_of_the_reader(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) == set()
    assert set(re.findall(r"var\(--(\w+)\)", html)) <= set(re.findall(r"--(\w+):", html))


def test_the_answer_and_what_cannot_be_told_apart_are_at_the_top(html: str) -> None:
    text = html.replace("\u00a0", " ")
    assert text.index("<h1>The student rose") < text.index("cannot be told apart at n = 200") < text.index("pipeline")


def test_hostile_text_is_text(store: Store, run_key: str, made_up: Any) -> None:
    made_up.finish("warmup")
    row = made_up.mentored(1)
    evil = {"author": "student", "text": HOSTILE, "thought": HOSTILE, "code": HOSTILE, "observation": HOSTILE * 90_000}
    row |= {"task": {"id": HOSTILE, "question": HOSTILE, "answer": HOSTILE}, "outcome": "corrected"}
    row["corrections"] = [
        {"k": 2, "prefix": [evil], "rejected": [evil], "chosen": evil | {"author": "teacher"}, "advice": HOSTILE}
    ]
    aside = made_up.mentored(2) | {"outcome": "set_aside", "note": HOSTILE, "corrections": []}
    made_up.commit("mentor", {"mentored.jsonl": [row, aside]}, {HOSTILE: 1}, problems=[HOSTILE], message=HOSTILE)
    html = page(gather(store, run_key))
    reader = read(html)
    assert "script" not in reader.tags and "img" not in reader.tags
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html
    assert "{{ 7*7 }}" in html
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", html)
    assert len(html) < 300_000


def test_hostile_names_do_not_leave_a_drawing(finished: Facts) -> None:
    name = "</svg><script>$x^2$"
    renamed = tuple(one.model_copy(update={"model": name, "eval": name}) for one in finished.scores)
    reader = read(page(Facts(run=finished.run, answer="", scores=renamed)))
    assert "script" not in reader.tags and "img" not in reader.tags
