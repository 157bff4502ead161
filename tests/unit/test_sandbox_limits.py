"""What a manifest may ask of the sandbox, and what it is told when a limit makes no sense."""

from dataclasses import fields

import pytest

from score_distill.api import Agent
from score_distill.sandbox.limits import MIB, Limits, limits_of

HUGE = 10**15


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
@pytest.mark.parametrize("value", [-1, HUGE])
def test_a_limit_that_makes_no_sense_is_refused_by_name_with_what_would_do(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"limits: {name} is {value}, must be from .+ to .+"):
        Limits(**{name: value})


def test_the_manifest_says_how_long_a_step_runs_and_what_it_may_hold() -> None:
    found = limits_of(Agent(step_seconds=2.5, memory_mib=100, observation_chars=500), cores=4)
    assert (found.wall_seconds, found.cpu_seconds, found.observation_chars) == (2.5, 3, 500)
    assert (found.memory_bytes, found.session_memory_bytes) == (100 * MIB, 400 * MIB)


@pytest.mark.parametrize(("cores", "running"), [(1, 8), (2, 8), (16, 64)])
def test_no_more_steps_run_at_once_than_cores_can_serve(cores: int, running: int) -> None:
    assert limits_of(Agent(), cores).running == running
