"""The plan: which steps a run has, which are done, what is ready, what is needed and what it will cost."""

from typing import Any

import pytest

from score_distill.api import DistillationRun
from score_distill.control.change import changes
from score_distill.control.estimate import Tasks, tasks_of
from score_distill.control.pipeline import may_lock, steps_of
from score_distill.control.plan import Done, plan
from score_distill.manifest import ManifestError, parse

ORDER = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
TASKS = Tasks(cold_start=100, dev=50, mentor=400, evaluation=300)


def run(**spec: Any) -> DistillationRun:
    base = {
        "student": {"model": "student"},
        "teacher": {"model": "teacher"},
        "tasks": {"train": {"uri": "train.jsonl"}, "eval": [{"name": "test", "uri": "test.jsonl"}]},
        "artifacts": {"uri": "runs"},
    }
    return parse(
        {
            "apiVersion": "distill.score.dev/v1alpha1",
            "kind": "DistillationRun",
            "metadata": {"name": "r"},
            "spec": base | spec,
        }
    )


def test_every_input_comes_before_its_reader() -> None:
    for rounds in (1, 5):
        steps = steps_of(run(method={"rounds": rounds, "control": "Imitation"}).spec)
        for place, step in enumerate(steps):
            assert set(step.inputs) <= {earlier.name for earlier in steps[:place]}


def test_without_rl_the_step_and_its_result_are_gone() -> None:
    steps = steps_of(run(method={"rl": {"enabled": False}}).spec)
    assert [step.name for step in steps] == [name for name in ORDER if name != "rl"]
    assert all("rl" not in step.inputs for step in steps)


def test_a_control_has_steps_of_its_own_after_the_student_is_made() -> None:
    spec = run(method={"control": "Imitation"}).spec
    names = [step.name for step in steps_of(spec)]
    assert names == [*ORDER[:-1], "more-demos", "imitate", "evaluate"]
    inputs = {step.name: step.inputs for step in steps_of(spec)}
    assert inputs["more-demos"] == ("prepare", "demonstrate", "mentor")
    assert inputs["imitate"] == ("demonstrate", "more-demos", "sft", "warmup")
    assert "imitate" in inputs["evaluate"]
    plain = steps_of(run().spec)
    assert [step.name for step in plain] == ORDER
    assert "imitate" not in plain[-1].inputs


def test_full_horizon_reinforces_the_same_student_after_rl_and_stands_beside_it() -> None:
    spec = run(method={"rounds": 2, "rl": {"controls": ["FullHorizon"]}}).spec
    steps = {step.name: step for step in steps_of(spec)}
    assert list(steps)[-3:] == ["rl", "full-horizon", "evaluate"]
    assert steps["full-horizon"].inputs == ("prepare", "mentor-2", "sft-2", "rl")
    assert (steps["full-horizon"].verb, steps["full-horizon"].needs) == ("rl", steps["rl"].needs)
    assert steps["evaluate"].inputs[-1] == "full-horizon"
    assert spec.method.evaluated == ("base", "init", "sft", "sft-2", "full-horizon", "rl", "teacher")


def test_on_policy_distillation_is_a_step_beside_full_horizon_and_has_a_teacher_that_only_acts() -> None:
    both = {"rl": {"controls": ["OnPolicyDistillation", "FullHorizon"]}}
    spec = run(method=both, teacher={"model": "t", "prompt": "Bare"}).spec
    steps = {step.name: step for step in steps_of(spec)}
    assert list(steps)[-4:] == ["rl", "full-horizon", "distil-on-policy", "evaluate"]
    assert steps["distil-on-policy"].inputs == steps["full-horizon"].inputs == ("prepare", "mentor", "sft", "rl")
    assert "teacher" not in steps["rl"].needs | steps["full-horizon"].needs
    assert steps["distil-on-policy"].needs == steps["rl"].needs | {"teacher"}
    assert steps["evaluate"].inputs[-2:] == ("full-horizon", "distil-on-policy")
    assert spec.method.evaluated == ("base", "init", "sft", "full-horizon", "distil-on-policy", "rl", "teacher")
    alone = run(method={"rl": {"controls": ["OnPolicyDistillation"]}}).spec
    assert [step.name for step in steps_of(alone)] == [*ORDER[:-1], "distil-on-policy", "evaluate"]
    assert "full-horizon" not in alone.method.evaluated


def test_a_round_mentors_the_student_of_the_one_before_and_trains_on_all_corrections_so_far() -> None:
    steps = steps_of(run(method={"rounds": 3, "control": "Imitation"}).spec)
    rounds = ["mentor", "sft", "mentor-2", "sft-2", "mentor-3", "sft-3"]
    assert [step.name for step in steps] == [*ORDER[:3], *rounds, "rl", "more-demos", "imitate", "evaluate"]
    inputs = {step.name: step.inputs for step in steps}
    assert [inputs[name] for name in rounds] == [
        ("prepare", "warmup"),
        ("demonstrate", "mentor", "warmup"),
        ("prepare", "sft"),
        ("demonstrate", "mentor", "mentor-2", "warmup"),
        ("prepare", "sft-2"),
        ("demonstrate", "mentor", "mentor-2", "mentor-3", "warmup"),
    ]
    assert inputs["rl"] == ("prepare", "mentor-3", "sft-3")
    assert inputs["more-demos"] == ("prepare", "demonstrate", "mentor", "mentor-2", "mentor-3")
    assert inputs["imitate"] == ("demonstrate", "more-demos", "sft-3", "warmup")
    assert inputs["evaluate"] == ("prepare", "warmup", "sft", "sft-2", "sft-3", "rl", "imitate")


def test_rounds_divide_the_tasks_and_cost_what_one_round_would() -> None:
    def corrections(rounds: int) -> list[int]:
        found = plan(run(method={"rounds": rounds, "split": {"sft": 0.5}}), {}, TASKS).steps
        return [one.tokens.teacher for one in found if one.step.verb == "mentor"]

    [whole], halves = corrections(1), corrections(2)
    assert sum(halves) == whole > 0
    assert halves == [whole // 4, 3 * whole // 4]  # half of the SFT half; the other half, and those for RL


@pytest.mark.parametrize(
    ("method", "models"),
    [
        ({}, ("base", "init", "sft", "rl", "teacher")),
        ({"rl": {"enabled": False}}, ("base", "init", "sft", "teacher")),
        ({"rounds": 2}, ("base", "init", "sft", "sft-2", "rl", "teacher")),
        (
            {"rounds": 2, "control": "Imitation", "evaluation": {"models": ["init"]}},
            ("init", "imitation", "sft-2"),
        ),
        ({"control": "Imitation"}, ("base", "init", "imitation", "sft", "rl", "teacher")),
        ({"control": "Imitation", "evaluation": {"models": ["rl", "base"]}}, ("base", "imitation", "sft", "rl")),
    ],
)
def test_a_control_is_scored_with_what_it_is_compared_with(method: dict[str, Any], models: tuple[str, ...]) -> None:
    assert run(method=method).spec.method.evaluated == models


def test_a_control_is_estimated_at_what_the_corrections_of_its_half_cost() -> None:
    for share in (0.25, 0.5):
        method = {"control": "Imitation", "split": {"sft": share}}
        tokens = {one.step.name: one.tokens for one in plan(run(method=method), {}, TASKS).steps}
        assert tokens["more-demos"].teacher == round(share * tokens["mentor"].teacher) > 0
        assert tokens["imitate"].teacher == 0


def test_on_policy_distillation_is_estimated_at_what_the_teacher_reads() -> None:
    method = {"rl": {"controls": ["FullHorizon", "OnPolicyDistillation"]}}
    tokens = {one.step.name: one.tokens for one in plan(run(method=method), {}, TASKS).steps}
    assert tokens["distil-on-policy"].student == tokens["full-horizon"].student == tokens["rl"].student > 0
    assert 0 < tokens["distil-on-policy"].teacher < tokens["distil-on-policy"].student
    assert tokens["full-horizon"].teacher == 0


@pytest.mark.parametrize(
    ("models", "needs"),
    [
        (["base", "teacher"], {"teacher", "student", "sandbox"}),
        (["base", "rl"], {"student", "sandbox"}),
        (["teacher"], {"teacher", "sandbox"}),
    ],
)
def test_an_evaluation_needs_only_the_servers_of_its_models(models: list[str], needs: set[str]) -> None:
    assert steps_of(run(method={"evaluation": {"models": models}}).spec)[-1].needs == needs


def test_rl_has_a_judge_where_the_teacher_takes_instructions() -> None:
    needs = {"trainer", "student", "sandbox"}
    for prompt, more in (("Instructions", {"teacher"}), ("Bare", set())):
        steps = steps_of(run(teacher={"model": "teacher", "prompt": prompt}).spec)
        assert [step.needs for step in steps if step.name == "rl"] == [needs | more]


STATES = [
    ([], "prepare"),
    (["prepare"], "demonstrate"),
    (["prepare", "demonstrate"], "warmup"),
    (ORDER[:4], "sft"),
    (ORDER[:6], "evaluate"),
    (ORDER, None),
]


@pytest.mark.parametrize(("done", "ready"), STATES)
def test_what_is_done_decides_what_is_next(done: list[str], ready: str | None) -> None:
    found = plan(run(method={"evaluation": {"models": ["base", "rl"]}}), {name: Done() for name in done}, TASKS)
    assert [one.step.name for one in found.steps if one.state == "done"] == done
    assert [step.name for step in found.ready] == ([ready] if ready else [])
    assert [step.name for step in found.left] == ORDER[len(done) :]


def test_a_waiting_step_says_for_what() -> None:
    states = {one.step.name: one.reason for one in plan(run(), {"prepare": Done()}, None).steps}
    assert states["prepare"] == "attempt 1 is in the store"
    assert states["warmup"] == "waits for demonstrate"
    assert states["sft"] == "waits for demonstrate, mentor, warmup"


def test_the_parts_of_the_tasks_follow_the_split() -> None:
    spec = run(method={"split": {"coldStart": 0.2, "dev": 0.1}}).spec
    assert tasks_of(spec, 1000, 30) == Tasks(cold_start=200, dev=100, mentor=700, evaluation=30)


def test_a_bare_attempt_of_two_steps_by_hand() -> None:
    """Two steps: opening 50 each, the second with 25 + 25.6 of the first before it, each writes 25: 200.6, in all."""
    bare = {"model": "m", "prompt": "Bare"}
    agent = {"maxSteps": 3, "stepTokens": 100, "observationChars": 1024}
    found = plan(run(student=bare, teacher=bare, method={"agent": agent}), {}, TASKS)
    tokens = {one.step.name: one.tokens for one in found.steps}
    assert tokens["demonstrate"].teacher == 100 * 201
    assert tokens["evaluate"].teacher == 300 * 201
    assert tokens["evaluate"].student == 300 * 4 * 201
    assert tokens["warmup"].basis == "asks no model"


def test_what_was_measured_takes_the_place_of_what_was_assumed() -> None:
    done = {"prepare": Done(), "demonstrate": Done(tokens={"teacher": 5000}, attempts={"teacher": 100})}
    found = plan(run(), done, TASKS)
    tokens = {one.step.name: one.tokens for one in found.steps}
    assert (tokens["demonstrate"].teacher, tokens["demonstrate"].basis) == (5000, "spent")
    assert tokens["evaluate"].teacher == 300 * 50
    assert "teacher 50 (measured)" in tokens["evaluate"].basis
    assert found.spent("teacher") == 5000
    assert found.tokens("teacher") == 5000 + tokens["mentor"].teacher + 15000


def test_without_counted_tasks_there_is_no_estimate() -> None:
    (first, *_) = plan(run(), {}, None).steps[1:]
    assert (first.tokens.teacher, first.tokens.basis) == (0, "the task files were not counted")


def test_changes_name_each_field_that_may_not_change() -> None:
    before = run()
    now = run(
        method={"rl": {"groupSize": 8}},
        seed=3,
        budget={"teacherTokens": 5},
        resources={"trainer": {"zeroStage": 3}},
        artifacts={"uri": "elsewhere"},
        scheduling={"nodeSelector": {"pool": "gpu"}},
        images={"worker": "registry.example/worker:2"},
        suspend=True,
        stallSeconds=60,
        ttlSecondsAfterFinished=0,
        teacher={"model": "teacher", "concurrency": 1, "serving": {"args": ["--x"]}},
    )
    assert changes(before, now) == ("spec.method.rl.groupSize: 16, now 8", "spec.seed: 0, now 3")
    assert changes(before, before) == ()


def test_a_part_that_appears_or_goes_is_a_change() -> None:
    endpoint = {"url": "http://x/v1", "model": "m"}
    found = changes(run(), run(teacher={"endpoint": endpoint}))
    assert found[0] == "spec.teacher.model: teacher, now None"
    assert found[1].startswith("spec.teacher.endpoint: None, now {'url': 'http://x/v1'")


SIZES = {"teacher": {"gpus": 4}, "student": {"gpus": 1}, "trainer": {"gpus": 8, "nodes": 2}}
ACTING = SIZES | {"rollout": {"gpus": 1, "parallelism": 3}}
BARE: dict[str, Any] = {"teacher": {"model": "teacher", "prompt": "Bare"}}
ENDPOINT: dict[str, Any] = {"teacher": {"endpoint": {"url": "https://x/v1", "model": "m"}}}
AT_ONCE: list[tuple[dict[str, Any], list[int]]] = [
    ({"resources": SIZES}, [0, 4, 16, 5, 16, 21, 5]),
    ({"resources": ACTING}, [1, 7, 16, 8, 16, 21, 8]),
    ({"resources": SIZES} | BARE, [0, 4, 16, 5, 16, 17, 5]),
    ({"resources": SIZES} | ENDPOINT, [0, 0, 16, 1, 16, 17, 1]),
    ({"resources": SIZES, "method": {"rl": {"enabled": False}}}, [0, 4, 16, 5, 16, 5]),
    (
        {"resources": SIZES, "method": {"rl": {"controls": ["OnPolicyDistillation"]}}} | BARE,
        [0, 4, 16, 5, 16, 17, 21, 5],
    ),
    ({"resources": SIZES, "method": {"rounds": 2}}, [0, 4, 16, 5, 16, 5, 16, 21, 5]),
    ({}, [0, 0, 0, 0, 0, 0, 0]),
]


@pytest.mark.parametrize(("spec", "needed"), AT_ONCE)
def test_the_gpus_of_each_step_are_known_and_a_budget_of_fewer_is_refused(
    spec: dict[str, Any], needed: list[int]
) -> None:
    steps = plan(run(**spec), {}, None).steps
    assert [one.gpus.total for one in steps] == needed
    most = max(needed)
    assert run(**spec, budget={"gpus": most}).spec.budget.gpus == most
    if most:
        first = next(one for one in steps if one.gpus.total == most)
        with pytest.raises(ManifestError) as refused:
            run(**spec, budget={"gpus": most - 1})
        assert refused.value.faults == (
            f"spec.budget.gpus: {most - 1}; must be at least what step {first.step.name} needs at once: {first.gpus}",
        )


def test_gpus_are_told_by_whom_they_are_held() -> None:
    assert str(plan(run(resources=ACTING), {}, None).steps[5].gpus) == "21 (teacher 4, student 1, trainer 16)"
    assert str(plan(run(resources=ACTING), {}, None).steps[1].gpus) == "7 (teacher 4, workers 3)"


@pytest.mark.parametrize(
    ("resources", "steps"),
    [
        ({}, []),
        ({"trainer": {"gpus": 8}}, []),
        ({"teacher": {"gpus": 4}}, []),
        ({"rollout": {"gpus": 1, "parallelism": 4}}, []),
        ({"trainer": {"gpus": 8, "nodes": 2}}, ["warmup", "sft", "rl"]),
        ({"teacher": {"gpus": 4}, "student": {"gpus": 1}}, ["mentor", "rl", "evaluate"]),
        ({"student": {"gpus": 1}, "trainer": {"gpus": 8}}, ["rl"]),
        ({"teacher": {"gpus": 4}, "rollout": {"gpus": 1}}, ["demonstrate", "mentor", "evaluate"]),
    ],
)
def test_a_step_may_lock_when_pods_that_hold_gpus_can_only_work_together(
    resources: dict[str, Any], steps: list[str]
) -> None:
    spec = run(resources=resources).spec
    assert [step.name for step in steps_of(spec) if may_lock(step, spec)] == steps
