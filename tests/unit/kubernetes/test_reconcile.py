"""One pass over a run: from bodies, as the API server gives them, to objects, deletions and status."""

import json

import pytest
from pydantic import ValidationError
from tests.unit.kubernetes.world import (
    NOW,
    ORDER,
    SETTINGS,
    UID,
    Body,
    EnvState,
    come_to,
    condition,
    kinds,
    one_pass,
    run,
    step,
)

from score_distill.api import Status
from score_distill.contract import Progress, Summary, together
from score_distill.control.status import news
from score_distill.errors import Exit
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import Changes, Measured, reconcile


def test_the_first_pass_starts_prepare_and_the_teacher_that_the_next_step_needs() -> None:
    world, body = EnvState(), run()
    changes = one_pass(world, body)
    teacher = ["Service one-teacher", "Deployment one-teacher"]
    assert kinds(changes) == [*teacher, "ConfigMap one-prepare-1", "Job one-prepare-1"]
    assert changes.keys is not None
    assert (step(body, "prepare")["state"], step(body, "prepare")["attempt"]) == ("Running", 1)
    assert condition(body, "Succeeded")["status"] == "Unknown"


def test_the_steps_of_a_control_are_jobs_like_the_others() -> None:
    order = [*ORDER[:-1], "more-demos", "imitate", "evaluate"]
    rollout = {"parallelism": 3}
    world, body = come_to("evaluate", order, method={"control": "Imitation"}, resources={"rollout": rollout})
    assert [one["name"] for one in body["status"]["steps"]] == order
    shards, alone = (world.jobs[f"one-{name}-1"]["spec"]["completions"] for name in ("more-demos", "imitate"))
    assert (shards, alone) == (3, 1)
    containers = world.jobs["one-more-demos-1"]["spec"]["template"]["spec"]["containers"]
    assert "demonstrate" in containers[0]["command"]


def test_a_pass_that_changes_nothing_applies_nothing_and_says_the_same() -> None:
    world, body = come_to("mentor")
    before = body["status"]
    changes = one_pass(world, body, NOW + 5)
    assert (changes.apply, changes.delete, changes.keys) == ((), (), None)
    again = one_pass(world, body, NOW + 9)
    assert again.status == changes.status
    assert before["steps"] == body["status"]["steps"]


def test_a_whole_run_ends_succeeded_and_leaves_no_server() -> None:
    world, body = come_to("evaluate")
    score = {"model": "rl", "eval": "test", "score": 0.772, "low": 0.7, "high": 0.8, "n": 500}
    last = Summary.model_validate({"step": "evaluate", "succeeded": True, "scores": [score], "digest": "e" * 64})
    world.end("one-evaluate-1", last)
    changes = one_pass(world, body)
    assert condition(body, "Succeeded")["status"] == "True"
    assert world.deployments == {}
    assert changes.again is None
    assert body["status"]["score"] == "rl 77.2"
    assert body["status"]["artifacts"]["report"] == f"s3://b/runs/one-{UID}/report/report.html"
    assert body["status"]["usage"]["teacherTokens"] == 60
    assert all(one["state"] == "Succeeded" for one in body["status"]["steps"])
    world.jobs.clear()
    world.pods.clear()
    quiet = one_pass(world, body, NOW + 1000)
    assert (quiet.apply, quiet.status) == ((), None)


def test_a_spent_budget_stops_and_a_larger_one_goes_on() -> None:
    world, body = come_to("warmup", budget={"teacherTokens": 60})
    world.end("one-warmup-1", Summary(step="warmup", succeeded=True))
    one_pass(world, body)
    assert condition(body, "BudgetExceeded")["status"] == "True"
    assert condition(body, "Succeeded")["reason"] == "BudgetExceeded"
    assert world.deployments == {}
    body["spec"]["budget"]["teacherTokens"] = 600
    body["metadata"]["generation"] = 2
    one_pass(world, body)
    world.ready()
    assert "Job one-mentor-1" in kinds(one_pass(world, body))


def test_a_suspended_run_has_no_pods_and_goes_on_under_the_same_attempt() -> None:
    world, body = come_to("mentor")
    body["spec"]["suspend"] = True
    one_pass(world, body)
    assert condition(body, "Suspended")["status"] == "True"
    assert "one-mentor-1" not in world.jobs
    assert world.deployments == {}
    body["spec"]["suspend"] = False
    one_pass(world, body)
    world.ready()
    assert "Job one-mentor-1" in kinds(one_pass(world, body))
    assert condition(body, "Suspended")["status"] == "False"


def test_a_job_deleted_by_hand_is_made_again() -> None:
    world, body = come_to("sft")
    del world.jobs["one-sft-1"]
    assert kinds(one_pass(world, body)) == ["ConfigMap one-sft-1", "Job one-sft-1"]


def test_a_status_that_was_lost_is_found_again_from_the_jobs() -> None:
    world, body = come_to("sft")
    body["status"]["steps"] = [one for one in body["status"]["steps"] if one["state"] == "Succeeded"]
    assert one_pass(world, body).apply == ()
    assert step(body, "sft")["state"] == "Running"


def test_a_run_that_is_being_deleted_gets_nothing() -> None:
    body = run()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert reconcile(body, Children(), Measured(), SETTINGS, NOW) == Changes()


def test_a_manifest_that_the_api_server_let_through_is_refused_with_its_faults() -> None:
    world, body = EnvState(), run(seed=-1)
    changes = one_pass(world, body)
    assert changes.apply == ()
    assert condition(body, "Accepted")["status"] == "False"
    assert "spec.seed" in condition(body, "Accepted")["message"]
    assert one_pass(world, body).status == changes.status


PENDING: list[tuple[Body, str, str]] = [
    (
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 node"}]},
        "InsufficientCapacity",
        "0/3 node",
    ),
    (
        {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gates"}]},
        "Queued",
        "gates",
    ),
    (
        {"containerStatuses": [{"name": "stage", "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}]},
        "ImagePullFailed",
        "no",
    ),
    (
        {
            "containerStatuses": [
                {
                    "name": "stage",
                    "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}},
                }
            ]
        },
        "SecretMissing",
        'secret "s3" not found',
    ),
]


@pytest.mark.parametrize(("status", "reason", "message"), PENDING)
def test_why_pods_do_not_run_is_said(status: Body, reason: str, message: str) -> None:
    world, body = come_to("sft")
    labels = world.jobs["one-sft-1"]["metadata"]["labels"]
    pending = {"phase": "Pending", **status}
    world.pods["p"] = {"metadata": {"name": "p", "labels": labels}, "spec": {"containers": []}, "status": pending}
    one_pass(world, body)
    found = condition(body, "Succeeded")
    assert (found["reason"], found["message"]) == (reason, message)


REFUSED = {"exitCode": 2, "reason": "Error", "message": "vllm: error: unrecognized arguments: --no-such-flag"}
OUT = {"exitCode": 137, "reason": "OOMKilled", "message": "loading weights"}
FELL = {"exitCode": 1, "reason": "Error", "message": "RuntimeError: no kernel"}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}
CRASHES: list[tuple[str, Body, str, str]] = [
    ("vllm", {"state": BACK_OFF, "lastState": {"terminated": REFUSED}}, "ServingArgsRefused", "--no-such-flag"),
    ("vllm", {"state": {"terminated": REFUSED}}, "ServingArgsRefused", "spec.student.serving.args"),
    (
        "vllm",
        {"state": {"running": {}}, "lastState": {"terminated": REFUSED}, "restartCount": 1},
        "ServingArgsRefused",
        "mend or remove",
    ),
    ("vllm", {"state": BACK_OFF, "lastState": {"terminated": FELL}}, "CrashLoop", "exit code 1: RuntimeError: no kern"),
    ("vllm", {"state": {"terminated": FELL}}, "CrashLoop", "container vllm ended with exit code 1"),
    ("vllm", {"state": BACK_OFF, "lastState": {"terminated": OUT}}, "CrashLoop", "OOMKilled"),
    (
        "vllm",
        {"state": {"running": {}}, "lastState": {"terminated": OUT}, "restartCount": 4},
        "CrashLoop",
        "spec.resources.student.limits.memory",
    ),
    ("vllm", {"state": BACK_OFF}, "CrashLoop", "back-off 40s"),
    ("vllm", {"state": {"running": {}}, "lastState": {"terminated": FELL}, "restartCount": 1}, "StudentNotReady", ""),
    ("vllm", {"state": {"running": {}}}, "StudentNotReady", ""),
    ("vllm", {"state": {"waiting": {"reason": "ContainerCreating"}}}, "StudentNotReady", ""),
    ("gateway", {"state": BACK_OFF, "lastState": {"terminated": REFUSED}}, "CrashLoop", "container gateway"),
]


def with_student(status: Body) -> tuple[EnvState, Body]:
    """A run that waits for its student alone, whose pod says ``status``."""
    world, body = come_to("mentor")
    world.end("one-mentor-1", Summary(step="mentor", succeeded=False, message="no"), int(Exit.BAD_INPUT))
    one_pass(world, body)
    body["metadata"]["generation"] = 2
    one_pass(world, body)
    world.ready()
    world.deployments["one-student"]["status"] = {}
    labels = world.deployments["one-student"]["metadata"]["labels"]
    world.pods["student"] = {"metadata": {"name": "s", "labels": labels}, "spec": {"containers": []}, "status": status}
    return world, body


@pytest.mark.parametrize(("name", "said", "reason", "words"), CRASHES)
def test_a_server_that_ends_again_and_again_is_told_with_its_last_words(
    name: str, said: Body, reason: str, words: str
) -> None:
    others = [{"name": other, "state": {"running": {}}} for other in ("vllm", "gateway") if other != name]
    world, body = with_student({"phase": "Running", "containerStatuses": [{"name": name, **said}, *others]})
    one_pass(world, body)
    found = condition(body, "Succeeded")
    assert (found["status"], found["reason"]) == ("Unknown", reason)
    assert words in found.get("message", "")
    world.pods["student"]["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    world.ready()
    one_pass(world, body)
    assert condition(body, "Succeeded")["reason"] == "StepRunning"


def test_a_server_that_had_answered_crashes_and_refuses_nothing() -> None:
    last = {"name": "vllm", "state": BACK_OFF, "lastState": {"terminated": REFUSED}}
    world, body = with_student({"phase": "Running", "containerStatuses": [last]})
    once = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
    world.deployments["one-student"]["status"] = {"conditions": [once]}
    one_pass(world, body)
    assert condition(body, "Succeeded")["reason"] == "CrashLoop"


def test_a_pod_that_is_being_deleted_is_no_trouble() -> None:
    ended = {"name": "vllm", "state": {"terminated": FELL}}
    world, body = with_student({"phase": "Running", "containerStatuses": [ended]})
    world.pods["student"]["metadata"]["deletionTimestamp"] = "1970-01-12T13:46:30Z"
    one_pass(world, body)
    assert condition(body, "Succeeded")["reason"] == "StudentNotReady"


def test_the_teachers_condition_has_the_reason_of_its_pods() -> None:
    world, body = come_to("prepare")
    labels = world.deployments["one-teacher"]["metadata"]["labels"]
    refused = {"name": "vllm", "state": {"terminated": REFUSED}}
    status = {"phase": "Running", "containerStatuses": [refused]}
    world.deployments["one-teacher"]["status"] = {}
    world.pods["teacher"] = {"metadata": {"name": "t", "labels": labels}, "spec": {"containers": []}, "status": status}
    one_pass(world, body)
    found = condition(body, "TeacherReady")
    assert (found["status"], found["reason"]) == ("False", "ServingArgsRefused")
    assert found["message"].startswith("spec.teacher.serving.args: ")


def spends(teacher: int, done: int = 10) -> dict[str, Progress]:
    return {"mentor": Progress(done=done, total=400, unit="tasks", tokens={"teacher": teacher})}


def test_tokens_are_counted_while_a_step_runs_and_never_fewer() -> None:
    world, body = come_to("mentor")
    told = []
    for progress in ({}, spends(50), spends(20), {}, spends(70, done=9)):
        one_pass(world, body, progress=progress)
        told.append(body["status"]["usage"]["teacherTokens"])
    assert told == [60, 110, 110, 110, 130]
    world.end("one-mentor-1", None, code=137)
    one_pass(world, body)
    assert body["status"]["usage"]["teacherTokens"] == 130
    one_pass(world, body, now=NOW + 1000)
    one_pass(world, body, now=NOW + 1001, progress=spends(80))
    assert (step(body, "mentor")["attempt"], body["status"]["usage"]["teacherTokens"]) == (2, 140)
    world.end("one-mentor-2", Summary(step="mentor", succeeded=True, tokens={"teacher": 75}, digest="a" * 64))
    one_pass(world, body, now=NOW + 1002)
    assert body["status"]["usage"]["teacherTokens"] == 135, "the result says what it cost"


@pytest.mark.parametrize("tokens", [-1, 2**53 + 1, "many"])
def test_tokens_that_no_stage_can_have_spent_are_no_answer(tokens: object) -> None:
    with pytest.raises(ValidationError):
        Progress.model_validate({"done": 1, "total": 1, "unit": "tasks", "tokens": {"teacher": tokens}})


def test_progress_of_many_workers_stays_within_what_a_status_takes() -> None:
    whole = together([Progress(done=1, total=1, unit="tasks", tokens={"teacher": 2**53})] * 3)
    assert whole is not None
    assert whole.tokens == {"teacher": 2**53}


@pytest.mark.parametrize(
    ("before", "ends", "reached"),
    [
        (None, [(135, True), (15, False)], (150, 150)),
        (None, [(15, False), (135, True)], (150, 150)),
        (135, [(135, True), (15, False)], (150, 150)),
        (150, [(135, True), (None, False)], (150, 150)),
        (150, [(None, True), (None, False)], (150, 150)),
    ],
)
def test_a_step_of_several_workers_ends_with_what_all_did(
    before: int | None, ends: list[tuple[int | None, bool]], reached: tuple[int, int]
) -> None:
    world, body = come_to("evaluate", resources={"rollout": {"parallelism": 2}})
    if before is not None:
        one_pass(world, body, progress={"evaluate": Progress(done=before - 10, total=before, unit="tasks")})
    for shard, (count, made) in enumerate(ends):
        last = None if count is None else Progress(done=count, total=count, unit="tasks")
        told = Summary(step="evaluate", succeeded=True, digest="a" * 64 if made else "", progress=last)
        world.end("one-evaluate-1", told)
        world.pods[f"shard-{shard}"] = world.pods.pop("one-evaluate-1")
    one_pass(world, body)
    found = step(body, "evaluate")
    assert (found["state"], found["done"], found["total"]) == ("Succeeded", *reached)


def test_progress_is_in_the_status_and_stays_when_the_step_ends() -> None:
    world, body = come_to("mentor")
    told = {"mentor": Progress(done=120, total=400, unit="tasks", message="80 solved")}
    one_pass(world, body, progress=told)
    assert body["status"]["progress"] == "120/400 tasks"
    assert step(body, "mentor")["message"] == "80 solved"
    last = Progress(done=400, total=400, unit="tasks")
    world.end("one-mentor-1", Summary(step="mentor", succeeded=True, progress=last))
    one_pass(world, body)
    assert (step(body, "mentor")["done"], step(body, "mentor")["total"]) == (400, 400)


def test_a_queue_name_makes_jobs_that_wait_for_their_admission() -> None:
    world, body = come_to("prepare", scheduling={"queueName": "team-queue"})
    assert world.deployments["one-teacher"]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    job = world.jobs["one-prepare-1"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert job["spec"]["suspend"] is True
    one_pass(world, body)
    assert condition(body, "Progressing")["status"] == "False"
    assert (condition(body, "Progressing")["reason"], condition(body, "Succeeded")["status"]) == ("Queued", "Unknown")
    job["spec"]["suspend"] = False
    assert one_pass(world, body).apply == ()
    assert condition(body, "Progressing")["reason"] == "StepRunning"


def test_a_run_of_the_same_name_has_other_keys_and_another_place_in_the_store() -> None:
    body = run()
    other = json.loads(json.dumps(body).replace(UID, UID.replace("0f6a", "1234")))
    first = reconcile(body, Children(), Measured(), SETTINGS, NOW)
    second = reconcile(other, Children(), Measured(), SETTINGS, NOW)
    assert first.keys is not None
    assert second.keys is not None
    assert first.keys.keys != second.keys.keys
    assert first.keys.key != second.keys.key


def test_a_finished_run_is_kept_as_long_as_it_says() -> None:
    world, body = come_to("evaluate", ttlSecondsAfterFinished=100)
    world.end("one-evaluate-1", Summary(step="evaluate", succeeded=True))
    one_pass(world, body)
    kept = one_pass(world, body, NOW + 60)
    assert (kept.again, kept.remove) == (40, False)
    assert one_pass(world, body, NOW + 100).remove is True


def test_what_happened_is_worth_an_event_once() -> None:
    world, body = come_to("sft")
    before = Status.model_validate(body["status"])
    world.end("one-sft-1", Summary(step="sft", succeeded=False, message="gone"), int(Exit.INFRASTRUCTURE))
    one_pass(world, body)
    after = Status.model_validate(body["status"])
    assert list(news(before, after)) == [("Warning", "StepRetrying", "step sft: gone")]
    assert list(news(after, after)) == []
    one_pass(world, body, NOW + 60)
    assert list(news(after, Status.model_validate(body["status"]))) == [
        ("Normal", "StepStarted", "step sft, attempt 2")
    ]


@pytest.mark.parametrize("namespace", ["a", "0", "n" * 53, "n" * 63, "7-" * 31 + "7"])
def test_a_run_lives_in_any_namespace_that_kubernetes_has(namespace: str) -> None:
    world, body = EnvState(), run()
    body["metadata"]["namespace"] = namespace
    changes = one_pass(world, body)
    assert condition(body, "Accepted")["status"] == "True"
    assert {one["metadata"]["namespace"] for one in changes.apply} == {namespace}
