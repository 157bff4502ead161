"""The report in a terminal: what is said, and that text of models cannot style or steer it."""

import io

import pytest
from rich.console import Console

from score_distill.artifacts.store import Store
from score_distill.report import gather, print_report
from score_distill.report.facts import Facts, Problem


def printed(facts: Facts, *, colours: bool = False) -> str:
    file = io.StringIO()
    print_report(facts, Console(file=file, width=140, force_terminal=colours))
    return file.getvalue()


def test_a_finished_run(finished: Facts) -> None:
    text = printed(finished)
    assert text.splitlines()[0] == "quickstart (finished)"
    assert text.splitlines()[1].startswith("The student rose from")
    for words in ("cannot be told apart at n = 200", "13-gram of ledger", "2 min 28 s", "demonstrate", "set aside"):
        assert words in text


def test_a_run_that_was_not_begun(store: Store, run_key: str) -> None:
    text = printed(gather(store, run_key))
    assert "0 of 7 steps are done" in text
    assert "evaluate has not finished: no scores" in text


@pytest.mark.parametrize("hostile", ["[bold red]x[/]", "[/nothing]", "[link=file:///etc]x[/link]"])
def test_markup_is_text(store: Store, run_key: str, hostile: str) -> None:
    facts = gather(store, run_key)
    problem = Problem(step="mentor", text=hostile)
    text = printed(facts.model_copy(update={"problems": (problem,), "answer": hostile}), colours=True)
    assert text.count(hostile) == 2
