"""The policy: from what is observed of a run to the next action."""

from typing import Any

import pytest

from score_distill.api import DistillationRun
from score_distill.contract import Summary
from score_distill.control.places import PodsState
from score_distill.control.plan import Done
from score_distill.control.policy import (
    TRIES,
    Action,
    Decision,
    Ending,
    Finished,
    Observed,
    Record,
    Start,
    Stop,
    Wait,
    code_of,
    decide,
    pause,
)
from score_distill.errors import Exit
from score_distill.manifest import parse

ORDER = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
UP = {name: PodsState(True) for name in ("teacher", "student", "sandbox")}
NOW = 1000.0
NEW = Record()


def run(**spec: Any) -> DistillationRun:
    base = {
        "student": {"model": "student"},
        "teacher": {"model": "teacher"},
        "tasks": {"train": {"uri": "train.jsonl"}, "eval": [{"name": "test", "uri": "test.jsonl"}]},
        "artifacts": {"uri": "runs"},
    }
    head = {"apiVersion": "distill.score.dev/v1alpha1", "kind": "DistillationRun", "metadata": {"name": "r"}}
    return parse(head | {"spec": base | spec})


def until(step: str, teacher: int = 0) -> dict[str, Done]:
    """The results when ``step`` is the next one; demonstrate cost ``teacher`` tokens."""
    done = {name: Done() for name in ORDER[: ORDER.index(step)]}
    return done | ({"demonstrate": Done(tokens={"teacher": teacher})} if teacher else {})


def next_of(step: str, record: Record = NEW, now: float = NOW, **spec: Any) -> Decision:
    return decide(run(**spec), Observed(until(step), {step: record}, UP), now)


def failed(code: int, failures: int = 1) -> Record:
    return Record(attempt=3, failures=failures, ended=Ending(code, "why\nmore", NOW))


@pytest.mark.parametrize("step", ORDER)
def test_the_first_step_that_is_not_done_is_started(step: str) -> None:
    action = next_of(step).action
    assert isinstance(action, Start)
    assert (action.step.name, action.attempt, action.teacher_tokens) == (step, 1, None)


def test_a_run_whose_steps_are_all_done_is_finished_and_needs_nothing() -> None:
    decision = decide(run(), Observed({name: Done() for name in ORDER}), NOW)
    assert isinstance(decision.action, Finished)
    assert decision.servers == set()


def test_a_step_that_runs_is_waited_for() -> None:
    action = next_of("mentor", Record(attempt=1).started(2)).action
    assert isinstance(action, Wait)
    assert action.reason == "Running"


@pytest.mark.parametrize("code", [Exit.INFRASTRUCTURE, 128 + 9, 128 + 15])
def test_what_a_retry_may_help_is_tried_again_after_a_pause(code: int) -> None:
    record = failed(code, 2)
    waiting = next_of("sft", record, NOW + pause(2) - 1).action
    assert isinstance(waiting, Wait)
    assert (waiting.reason, waiting.message, waiting.until) == ("Retrying", "why", NOW + pause(2))
    again = next_of("sft", record, NOW + pause(2)).action
    assert isinstance(again, Start)
    assert again.attempt == 4


@pytest.mark.parametrize("code", [Exit.BUG, Exit.BAD_INPUT, Exit.MODEL, Exit.BUDGET, Exit.INTERRUPTED])
def test_what_a_retry_cannot_help_stops_the_run_with_its_own_exit(code: Exit) -> None:
    action = next_of("sft", failed(code), NOW + 99).action
    assert isinstance(action, Stop)
    assert (action.exit, action.message) == (code, "step sft: why\nmore")


def test_a_store_may_be_away_for_two_minutes() -> None:
    assert sum(pause(failures) for failures in range(1, TRIES)) >= 120


def test_an_exit_code_that_nobody_knows_is_a_bug() -> None:
    action = next_of("sft", failed(77)).action
    assert isinstance(action, Stop)
    assert action.exit == Exit.BUG


def test_only_attempts_that_get_no_further_count_against_the_bound() -> None:
    record, ending = Record(), Ending(Exit.INFRASTRUCTURE, "gone", NOW)
    for done in (3, *[5] * (TRIES - 1)):
        record = record.started(record.attempt + 1).failed(ending, done)
    assert (record.failures, record.attempt) == (TRIES - 1, TRIES)
    assert isinstance(next_of("rl", record, NOW + 99).action, Start)
    record = record.started(TRIES + 1).failed(ending, 5)
    assert record.failures == TRIES
    action = next_of("rl", record, NOW + 99).action
    assert isinstance(action, Stop)
    assert (action.exit, f"{TRIES} tries in a row got no further" in action.message) == (Exit.INFRASTRUCTURE, True)
    further = record.started(TRIES + 2).failed(ending, 6)
    assert further.failures == 1


def test_a_control_that_is_killed_again_and_again_is_given_up_and_the_run_goes_on() -> None:
    whole = run(method={"rl": {"controls": ["FullHorizon"]}})
    done = {name: Done() for name in ORDER[:-1]}

    def after(failures: int) -> Action:
        ending = Ending(128 + 9, "its process was killed\nthe end of its log", NOW)
        record = Record(attempt=failures, failures=failures, ended=ending)
        return decide(whole, Observed(done, {"full-horizon": record}, UP), NOW + 999).action

    for failures, why in ((TRIES - 1, ""), (TRIES, "its process was killed")):
        start = after(failures)
        assert isinstance(start, Start)
        assert (start.step.name, start.given_up) == ("full-horizon", why)
    assert isinstance(after(TRIES + 1), Stop)


def test_a_step_waits_for_the_servers_that_it_needs_and_for_no_other() -> None:
    servers = {"teacher": PodsState(False, "pulling"), "student": PodsState(True), "sandbox": PodsState(True)}
    seen = Observed(until("mentor"), {}, servers)
    action = decide(run(), seen, NOW).action
    assert isinstance(action, Wait)
    assert (action.reason, action.message, action.server) == ("ServerNotReady", "pulling", "teacher")
    assert isinstance(decide(run(), Observed(until("sft"), {}, {}), NOW).action, Start)


@pytest.mark.parametrize(
    ("step", "ahead", "servers"),
    [
        ("prepare", None, {"teacher", "student", "sandbox"}),
        ("prepare", 0, set()),
        ("prepare", 1, {"teacher", "sandbox"}),
        ("sft", 0, set()),
        ("sft", 1, {"teacher", "student", "sandbox"}),
        ("evaluate", 1, {"teacher", "student", "sandbox"}),
    ],
)
def test_servers_are_up_for_the_steps_near_enough(step: str, ahead: int | None, servers: set[str]) -> None:
    assert decide(run(), Observed(until(step)), NOW, ahead=ahead).servers == servers


def test_the_budget_stops_before_a_step_that_asks_the_teacher_and_says_what_is_left() -> None:
    budget = {"teacherTokens": 100}
    spent = Observed(until("mentor", teacher=100), {}, UP)
    action = decide(run(budget=budget), spent, NOW).action
    assert isinstance(action, Stop)
    assert (action.exit, action.message) == (
        Exit.BUDGET,
        "spec.budget.teacherTokens: 100; 100 are spent before step mentor",
    )
    start = decide(run(budget=budget), Observed(until("mentor", teacher=60), {}, UP), NOW).action
    assert isinstance(start, Start)
    assert start.teacher_tokens == 40
    assert isinstance(decide(run(budget=budget), Observed(until("warmup", teacher=100), {}, UP), NOW).action, Start)


def test_a_changed_manifest_stops_whatever_else_is_to_be_done() -> None:
    action = decide(run(), Observed(until("sft"), {}, UP, ("spec.seed: 0, now 5",)), NOW).action
    assert isinstance(action, Stop)
    assert action.exit == Exit.CHANGED
    assert action.message.endswith("\n  spec.seed: 0, now 5")


RANKS = [
    (["MODEL", "Stopped"], Exit.MODEL),
    (["BUG", "BAD_INPUT"], Exit.BAD_INPUT),
    (["BUG", "Stopped"], Exit.BUG),
    (["BUG"], Exit.INFRASTRUCTURE),
    ([], Exit.INFRASTRUCTURE),
]


@pytest.mark.parametrize(("reasons", "code"), RANKS)
def test_of_several_ranks_the_reason_counts_and_a_silent_one_was_killed(reasons: list[str], code: Exit) -> None:
    told = [Summary(step="sft", succeeded=False, reason=reason) for reason in reasons]
    assert code_of(1, 2, told) == code
