"""Stall clock and GPU seconds: from what the cluster keeps, so that they go on while the operator is down."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.kubernetes.world import NOW, Body, EnvState, come_to, condition, one_pass

from score_distill.contract import Progress, Summary
from score_distill.executors.kubernetes.gpus import gpu_seconds
from score_distill.executors.kubernetes.observe import Children, ended_shards


def at(second: float) -> str:
    return datetime.fromtimestamp(NOW + second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(begin: float | None, end: float | None = None, *, gpus: int = 1, name: str = "nvidia.com/gpu") -> Body:
    limits = {"memory": "8Gi", **({name: str(gpus)} if gpus else {})}
    status: Body = {"phase": "Pending"} if begin is None else {"phase": "Running", "startTime": at(begin)}
    if end is not None:
        ended = {"terminated": {"exitCode": 0, "finishedAt": at(end)}}
        status |= {"phase": "Succeeded", "containerStatuses": [{"name": "stage", "state": ended}]}
    containers = [{"name": "stage", "resources": {"limits": limits}}, {"name": "gateway"}]
    return {"metadata": {"name": "pod"}, "spec": {"containers": containers}, "status": status}


@pytest.mark.parametrize(
    ("pods", "since", "seconds"),
    [
        ([pod(0)], 0, 600),
        ([pod(0), pod(0, gpus=4)], 0, 3000),
        ([pod(0, gpus=0)], 0, 0),
        ([pod(None)], 0, 0),
        ([pod(0, name="nvidia.com/mig-1g.5gb")], 0, 600),
        ([pod(100)], 0, 500),
        ([pod(100)], 550, 50),
        ([pod(100, 400)], 0, 300),
        ([pod(100, 400)], 390, 10),
        ([pod(100, 400)], 500, 0),
        ([pod(100)], 700, 0),
    ],
)
def test_gpus_are_counted_from_when_a_node_takes_a_pod_to_the_end_of_its_last_container(
    pods: list[Body], since: float, seconds: int
) -> None:
    assert gpu_seconds(Children(pods=pods), NOW + since, NOW + 600) == seconds


def test_a_pod_that_was_lost_is_counted_up_to_the_last_that_was_heard_of_it() -> None:
    lost = pod(0)
    lost["status"] |= {"phase": "Failed", "conditions": [{"type": "Ready", "lastTransitionTime": at(120)}]}
    assert gpu_seconds(Children(pods=[lost]), NOW, NOW + 600) == 120
    del lost["status"]["conditions"]
    assert gpu_seconds(Children(pods=[lost]), NOW, NOW + 600) == 0


def test_an_ended_job_whose_pods_are_gone_says_how_long_they_ran() -> None:
    done = {"type": "Complete", "status": "True", "lastTransitionTime": at(300)}
    job: Body = {
        "metadata": {"name": "one-rl-1"},
        "spec": {"parallelism": 2, "template": {"spec": pod(0, gpus=4)["spec"]}},
        "status": {"startTime": at(0), "conditions": [done]},
    }
    assert gpu_seconds(Children(jobs=[job]), NOW, NOW + 600) == 8 * 300
    assert gpu_seconds(Children(jobs=[job]), NOW + 290, NOW + 600) == 8 * 10
    left = pod(0, 200, gpus=4)
    left["metadata"]["labels"] = {"batch.kubernetes.io/job-name": "one-rl-1"}
    assert gpu_seconds(Children(jobs=[job], pods=[left]), NOW, NOW + 600) == 4 * 200
    job["status"]["conditions"] = []
    assert gpu_seconds(Children(jobs=[job]), NOW, NOW + 600) == 0


def usage(body: Body) -> Body:
    return dict(body["status"]["usage"])


def test_gpu_seconds_go_on_while_the_operator_is_down_and_their_budget_stops_the_run() -> None:
    world, body = come_to("rl", budget={"gpuHours": 1})
    world.pods["trainer"] = pod(0, gpus=4)
    one_pass(world, body, NOW + 10.9)
    assert usage(body) == {"teacherTokens": 60, "gpuSeconds": 40, "countedUntil": at(10)}
    one_pass(world, body, NOW + 11.2)
    assert usage(body)["gpuSeconds"] == 44
    one_pass(world, body, NOW + 611)
    assert usage(body)["gpuSeconds"] == 4 * 611
    world.pods["trainer"] = pod(0, 700, gpus=4)
    for later in (800, 900):
        one_pass(world, body, NOW + later)
        assert (usage(body)["gpuSeconds"], usage(body)["countedUntil"]) == (2800, at(800))
    world.pods["trainer"] = pod(900, gpus=4)
    one_pass(world, body, NOW + 1120)
    assert condition(body, "BudgetExceeded")["message"] == "spec.budget.gpuHours: 1; 1.02 are spent at step rl"
    assert "one-rl-1" not in world.jobs
    assert world.deployments == {}


def mentoring(**spec: Any) -> tuple[EnvState, Body]:
    world, body = come_to("mentor", stallSeconds=600, **spec)
    one_pass(world, body, NOW, {"mentor": Progress(done=5, total=9, unit="tasks")})
    return world, body


def stalled(body: Body) -> tuple[str, str]:
    found = condition(body, "Stalled")
    return found["status"], found.get("message", "")


def test_a_run_that_gets_no_further_is_called_stalled_until_it_does() -> None:
    world, body = mentoring()
    same = {"mentor": Progress(done=5, total=9, unit="tasks")}
    one_pass(world, body, NOW + 599, same)
    assert stalled(body) == ("False", "")
    one_pass(world, body, NOW + 660, same)
    assert stalled(body) == ("True", f"step mentor has got no further since {at(0)}")
    one_pass(world, body, NOW + 670, {"mentor": Progress(done=6, total=9, unit="tasks")})
    assert stalled(body) == ("False", "")
    assert body["status"]["lastProgressTime"] == at(670)


def test_an_operator_that_was_down_asks_for_progress_before_it_calls_a_run_stalled() -> None:
    world, body = mentoring()
    one_pass(world, body, NOW + 1200, asked=False)
    assert stalled(body) == ("False", "")
    further, before = {"mentor": Progress(done=6, total=9, unit="tasks")}, dict(body)
    one_pass(world, body, NOW + 1210, further)
    assert stalled(body) == ("False", "")
    one_pass(world, before, NOW + 1210)
    assert stalled(before) == ("True", f"step mentor has got no further since {at(0)}")
    one_pass(world, before, NOW + 1220, asked=False)
    assert stalled(before)[0] == "True"


def test_a_pause_is_no_time_in_which_a_run_could_have_got_further() -> None:
    world, body = mentoring()
    body["spec"]["suspend"] = True
    one_pass(world, body, NOW + 10)
    one_pass(world, body, NOW + 5000)
    body["spec"]["suspend"] = False
    world.deployments.clear()
    one_pass(world, body, NOW + 9000)
    assert stalled(body) == ("False", "")
    one_pass(world, body, NOW + 9600)
    assert stalled(body) == ("True", f"step mentor has got no further since {at(9000)}")


def test_a_run_that_waits_in_its_queue_is_not_stalled() -> None:
    world, body = mentoring(scheduling={"queueName": "q"})
    job = world.jobs["one-mentor-1"]
    assert job["spec"]["suspend"] is True
    one_pass(world, body, NOW + 5000)
    assert (condition(body, "Progressing")["reason"], stalled(body)) == ("Queued", ("False", ""))
    job["spec"]["suspend"] = False
    one_pass(world, body, NOW + 6000)
    assert stalled(body) == ("False", "")
    one_pass(world, body, NOW + 6600)
    assert stalled(body) == ("True", f"step mentor has got no further since {at(6000)}")


def test_a_step_that_ended_is_progress() -> None:
    world, body = mentoring()
    world.end("one-mentor-1", Summary(step="mentor", succeeded=True))
    one_pass(world, body, NOW + 1200)
    assert stalled(body) == ("False", "")
    assert body["status"]["lastProgressTime"] == at(1200)


def test_a_worker_that_does_not_answer_takes_nothing_back_and_is_no_progress_when_it_answers_again() -> None:
    world, body = mentoring()
    one_pass(world, body, NOW + 300, {"mentor": Progress(done=2, total=4, unit="tasks")})
    one_pass(world, body, NOW + 660, {"mentor": Progress(done=5, total=9, unit="tasks")})
    assert stalled(body) == ("True", f"step mentor has got no further since {at(0)}")
    [step] = [one for one in body["status"]["steps"] if one["name"] == "mentor"]
    assert (step["done"], step["total"]) == (5, 9)


def test_a_worker_that_did_its_share_counts_while_others_work() -> None:
    labels = {"distill.score.dev/step": "mentor", "batch.kubernetes.io/job-name": "one-mentor-1"}
    said = Summary(step="mentor", succeeded=True, progress=Progress(done=4, total=4, unit="tasks"))
    shard = pod(0, 100)
    shard["metadata"]["labels"] = labels
    shard["status"]["containerStatuses"][0]["state"]["terminated"]["message"] = said.model_dump_json(by_alias=True)
    job: Body = {"metadata": {"name": "one-mentor-1", "labels": labels}, "status": {}}
    assert ended_shards(Children(jobs=[job], pods=[shard, pod(0)])) == [("mentor", said.progress)]
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert ended_shards(Children(jobs=[job], pods=[shard])) == []
