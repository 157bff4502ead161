"""GPUs of a run: which of its servers hold some beside a step, and what is given back for a step that has no place."""

import pytest
from tests.unit.kubernetes.world import NOW, UID, Body, EnvState, come_to, condition, kinds, one_pass, step

from score_distill.control.places import QUEUE_SECONDS, rest

SIZES = {"teacher": {"gpus": 4}, "student": {"gpus": 1}, "trainer": {"gpus": 8}}
TRAINS = ("warmup", "sft")


def unscheduled(world: EnvState, job: str, index: str = "0") -> None:
    """The pod of a Job, for which no node has room."""
    body = world.jobs[job]
    labels = body["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
    why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    status = {"phase": "Pending", "conditions": [why]}
    world.pods[f"{job}-{index}"] = {
        "metadata": {"name": f"{job}-{index}", "labels": labels},
        "spec": body["spec"]["template"]["spec"],
        "status": status,
    }


def place(world: EnvState, *roles: str) -> None:
    """Pods of servers, or of the newest Jobs of steps, that have nodes."""
    for body in [*world.deployments.values(), *world.jobs.values()]:
        name = body["metadata"]["name"]
        if any(name == f"one-{role}" or name.startswith(f"one-{role}-") for role in roles):
            labels = body["metadata"]["labels"] | {"batch.kubernetes.io/job-name": name}
            world.pods[name] = {
                "metadata": {"name": f"{name}-0", "labels": labels},
                "spec": body["spec"]["template"]["spec"] | {"nodeName": "node"},
                "status": {"phase": "Running"},
            }


def up(world: EnvState) -> list[str]:
    return sorted(name.removeprefix("one-") for name in world.deployments)


AHEAD: list[tuple[str, Body, bool, list[str]]] = [
    ("warmup", SIZES, False, []),
    ("sft", SIZES, False, []),
    ("warmup", SIZES, True, ["student", "teacher"]),
    ("prepare", SIZES, False, []),
    ("prepare", SIZES, True, ["teacher"]),
    ("demonstrate", SIZES, False, ["teacher"]),
    ("mentor", SIZES, False, ["student", "teacher"]),
    ("warmup", {"trainer": {"gpus": 8}}, False, ["student", "teacher"]),
    ("warmup", {"teacher": {"gpus": 4}, "trainer": {"gpus": 8}}, False, ["student"]),
]


@pytest.mark.parametrize(("at", "sizes", "ahead", "servers"), AHEAD)
def test_servers_hold_gpus_for_the_step_that_needs_them_unless_the_manifest_says_ahead(
    at: str, sizes: Body, ahead: bool, servers: list[str]
) -> None:
    world, _ = come_to(at, resources=sizes, scheduling={"ahead": ahead})
    assert up(world) == servers


@pytest.mark.parametrize(("most", "servers"), [(13, ["student", "teacher"]), (12, [])])
def test_servers_ahead_stay_within_the_budget_of_gpus(most: int, servers: list[str]) -> None:
    spec = {"scheduling": {"ahead": True}, "budget": {"gpus": most}, "method": {"rl": {"enabled": False}}}
    world, _ = come_to("warmup", resources=SIZES, **spec)
    assert up(world) == servers


@pytest.mark.parametrize("at", TRAINS)
@pytest.mark.parametrize(("sizes", "kept"), [(SIZES, []), (SIZES | {"student": {}}, ["student"])])
def test_a_step_without_a_place_has_the_servers_that_it_does_not_need_released_until_it_has_ended(
    at: str, sizes: Body, kept: list[str]
) -> None:
    world, body = come_to(at, resources=sizes, scheduling={"ahead": True})
    assert up(world) == ["student", "teacher"]
    unscheduled(world, f"one-{at}-1")
    one_pass(world, body)
    assert up(world) == kept
    assert step(body, at)["place"]["alone"]
    world.pods[f"one-{at}-1-0"]["status"] = {"phase": "Running"}
    for later in (10, 20):
        one_pass(world, body, NOW + later)
        assert up(world) == kept
    world.end(f"one-{at}-1", None)
    one_pass(world, body, NOW + 30)
    assert up(world) == ["student", "teacher"]
    assert "place" not in step(body, at)


def test_a_step_whose_job_waits_in_its_queue_has_them_released_in_a_while() -> None:
    world, body = come_to("warmup", resources=SIZES, scheduling={"ahead": True, "queueName": "team"})
    place(world, "teacher")
    for later in (1, QUEUE_SECONDS):
        one_pass(world, body, NOW + later)
        assert up(world) == ["student", "teacher"]
    one_pass(world, body, NOW + 1 + QUEUE_SECONDS)
    assert up(world) == []


def test_a_server_that_a_step_needs_stays_up_however_long_its_job_has_no_place() -> None:
    world, body = come_to("mentor", resources=SIZES, scheduling={"ahead": True})
    unscheduled(world, "one-mentor-1")
    one_pass(world, body)
    assert up(world) == ["student", "teacher"]


def test_to_start_servers_ahead_or_no_longer_restarts_none() -> None:
    world, body = come_to("mentor", resources=SIZES)
    body["spec"]["scheduling"] = {"ahead": True}
    body["metadata"]["generation"] = 2
    assert one_pass(world, body).apply == ()


def condition_of(body: Body) -> tuple[str, str]:
    """The reason and the words of what a run does."""
    found = condition(body, "Progressing")
    return found["reason"], found["message"]


def test_a_run_that_cannot_begin_its_step_in_time_gives_all_back_and_tries_again_under_the_same_attempt() -> None:
    world, body = come_to("mentor", resources=SIZES, pendingDeadlineSeconds=100)
    place(world, "teacher", "student")
    unscheduled(world, "one-mentor-1")
    assert one_pass(world, body, NOW + 1).again == 100
    assert one_pass(world, body, NOW + 99).again == 2
    assert (condition_of(body)[0], up(world)) == ("InsufficientCapacity", ["student", "teacher"])
    gave = one_pass(world, body, NOW + 101)
    assert (up(world), list(world.jobs)[-1]) == ([], "one-warmup-1")
    reason, message = condition_of(body)
    assert reason == "PendingDeadlineExceeded"
    assert "step mentor" in message
    assert "0/1 nodes" in message
    assert (step(body, "mentor")["state"], step(body, "mentor").get("failures", 0)) == ("Waiting", 0)
    assert gave.again is not None
    world.pods.clear()
    assert 15 <= gave.again <= 45
    quiet = one_pass(world, body, NOW + 101 + gave.again / 2)
    assert (quiet.apply, up(world), condition_of(body)) == ((), [], (reason, message))
    one_pass(world, body, NOW + 102 + gave.again)
    assert up(world) == ["student", "teacher"]
    world.ready()
    assert "Job one-mentor-1" in kinds(one_pass(world, body, NOW + 103 + gave.again))
    assert step(body, "mentor")["place"]["givenBack"] == 1


def test_an_operator_that_dies_before_it_says_so_gives_back_as_often_and_begins_the_same_attempt() -> None:
    world, body = come_to("sft", resources=SIZES, pendingDeadlineSeconds=100)
    unscheduled(world, "one-sft-1")
    one_pass(world, body, NOW + 1)
    before = body["status"]
    one_pass(world, body, NOW + 101)
    body["status"] = before
    assert "one-sft-1" not in world.jobs
    world.pods.clear()
    changes = one_pass(world, body, NOW + 102)
    assert "Job one-sft-1" in kinds(changes)
    assert step(body, "sft").get("failures", 0) == 0


WAITING: list[tuple[str, Body, bool]] = [
    ("a trainer of which one pod of two has no node", {"trainer": {"gpus": 4, "nodes": 2}}, True),
    ("shards of which one has a node", {"rollout": {"parallelism": 2}}, False),
]


@pytest.mark.parametrize(("what", "sizes", "gives_back"), WAITING, ids=[one[0] for one in WAITING])
def test_pods_that_work_on_their_own_are_kept_and_those_that_wait_for_others_are_not(
    what: str, sizes: Body, gives_back: bool
) -> None:
    at = "sft" if "trainer" in sizes else "mentor"
    world, body = come_to(at, resources=sizes, pendingDeadlineSeconds=100)
    place(world, at)
    unscheduled(world, f"one-{at}-1", "other")
    for later in (1, 50, 101):
        one_pass(world, body, NOW + later)
    assert (f"one-{at}-1" not in world.jobs) == gives_back


def test_a_server_that_loads_is_waited_for_and_one_without_a_node_is_not() -> None:
    world, body = come_to("prepare", pendingDeadlineSeconds=100)
    world.end("one-prepare-1", None)
    world.deployments["one-teacher"].pop("status")
    place(world, "teacher")
    for later in (1, 101, 1000):
        one_pass(world, body, NOW + later)
    assert condition_of(body)[0] == "TeacherNotReady"
    world.pods.clear()
    for later in (1001, 1101):
        one_pass(world, body, NOW + later)
    assert (condition_of(body)[0], up(world)) == ("PendingDeadlineExceeded", [])


def test_a_run_that_holds_nothing_keeps_its_turn_in_the_queue() -> None:
    world, body = come_to("sft", resources=SIZES, pendingDeadlineSeconds=100, scheduling={"queueName": "team"})
    world.pods.clear()
    for later in (1, 101, 1000):
        one_pass(world, body, NOW + later)
    assert (condition_of(body)[0], "one-sft-1" in world.jobs) == ("Queued", True)


def test_a_changed_manifest_ends_the_pause() -> None:
    world, body = come_to("sft", resources=SIZES, pendingDeadlineSeconds=100)
    unscheduled(world, "one-sft-1")
    for later in (1, 101):
        one_pass(world, body, NOW + later)
    world.pods.clear()
    body["spec"]["resources"] = SIZES | {"trainer": {"gpus": 4}}
    body["metadata"]["generation"] = 2
    assert "Job one-sft-1" in kinds(one_pass(world, body, NOW + 102))


def test_pauses_grow_to_a_bound_and_differ_between_runs() -> None:
    pauses = [[rest(f"run-{n}/rl", times) for times in range(1, 40)] for n in range(50)]
    assert all(15 <= one <= 900 for run in pauses for one in run)
    assert all(len({run[times] for run in pauses}) == 50 for times in range(39))
    assert pauses[7] == [rest("run-7/rl", times) for times in range(1, 40)]


QUEUED: Body = {"queueName": "team"}
GROUP = "kueue.x-k8s.io/pod-group"
QUEUE = "kueue.x-k8s.io/queue-name"
TWO_NODES = SIZES | {"trainer": {"gpus": 2, "nodes": 2}}
ENDPOINT: Body = {"endpoint": {"url": "https://x/v1", "model": "m"}}


def to_rl(**spec: Body) -> tuple[EnvState, Body]:
    """A run at RL, none of whose servers is ready."""
    world, body = come_to("sft", **spec)
    world.end("one-sft-1", None)
    for one in world.deployments.values():
        del one["status"]
    one_pass(world, body)
    return world, body


def template(body: Body) -> Body:
    metadata: Body = body["spec"]["template"]["metadata"]
    return metadata


def test_a_step_of_a_trainer_and_models_with_gpus_is_made_together_with_its_servers() -> None:
    world, body = to_rl(resources=SIZES)
    assert "one-rl-1" in world.jobs
    assert up(world) == ["student", "teacher"]
    assert condition_of(body) == ("StepRunning", "step rl, attempt 1")
    quiet = one_pass(world, body)
    assert (quiet.apply, quiet.delete) == ((), ())


@pytest.mark.parametrize("sizes", [{}, {"trainer": {"gpus": 8}}, {"teacher": {"gpus": 4}, "student": {"gpus": 1}}])
def test_where_only_one_side_holds_gpus_the_servers_come_first(sizes: Body) -> None:
    world, _ = to_rl(resources=sizes)
    assert "one-rl-1" not in world.jobs
    assert up(world) == ["student", "teacher"]


@pytest.mark.parametrize(("teacher", "pods"), [({"model": "s3://b/teacher"}, 4), (ENDPOINT, 3)])
def test_in_a_queue_the_pods_of_trainer_and_servers_are_one_group(teacher: Body, pods: int) -> None:
    world, body = to_rl(resources=TWO_NODES, scheduling=QUEUED, teacher=teacher)
    makers = [world.jobs["one-rl-1"], *world.deployments.values()]
    assert len(makers) == pods - 1
    assert {template(one)["labels"][f"{GROUP}-name"] for one in makers} == {f"rl-{UID}"}
    assert {template(one)["labels"][QUEUE] for one in makers} == {"team"}
    assert {template(one)["annotations"][f"{GROUP}-total-count"] for one in makers} == {str(pods)}
    assert {template(one)["annotations"]["kueue.x-k8s.io/retriable-in-group"] for one in makers} == {"false"}
    assert not any(QUEUE in one["metadata"]["labels"] for one in makers)
    assert "suspend" not in world.jobs["one-rl-1"]["spec"]
    world.end("one-rl-1", None)
    one_pass(world, body)
    assert not any(f"{GROUP}-name" in template(one)["labels"] for one in world.deployments.values())


def test_without_a_queue_no_pod_is_in_a_group() -> None:
    world, _ = to_rl(resources=SIZES)
    for one in (world.jobs["one-rl-1"], *world.deployments.values()):
        assert not {QUEUE, f"{GROUP}-name"} & template(one)["labels"].keys()


def test_a_server_that_its_queue_admitted_by_itself_is_made_anew_in_the_group_and_back() -> None:
    sizes = {"teacher": {"gpus": 4}, "trainer": {"gpus": 2}}
    world, body = come_to("sft", resources=sizes, scheduling=QUEUED)
    assert world.deployments["one-student"]["metadata"]["labels"][QUEUE] == "team"
    world.end("one-sft-1", None)
    first = one_pass(world, body)
    assert "Deployment one-student" not in kinds(first)
    assert "one-student" not in world.deployments
    assert "Deployment one-student" in kinds(one_pass(world, body))
    assert f"{GROUP}-name" in template(world.deployments["one-student"])["labels"]
    quiet = one_pass(world, body)
    assert (quiet.apply, quiet.delete) == ((), ())
    world.end("one-rl-1", None)
    for _ in range(2):
        one_pass(world, body)
    assert world.deployments["one-student"]["metadata"]["labels"][QUEUE] == "team"


def test_a_trainer_that_waits_for_its_servers_gives_back_with_them() -> None:
    world, body = to_rl(resources=SIZES, pendingDeadlineSeconds=100)
    place(world, "rl", "student")
    for later in (1, 101):
        one_pass(world, body, NOW + later)
    assert (condition_of(body)[0], up(world), "one-rl-1" in world.jobs) == ("PendingDeadlineExceeded", [], False)
