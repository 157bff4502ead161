"""One pass over a run: from bodies, as the API server gives them, to objects, deletions and status."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from score_distill.api import Status
from score_distill.contract import Progress, StageConfig, Summary
from score_distill.control.policy import TRIES
from score_distill.control.status import news
from score_distill.errors import Exit
from score_distill.executors.kubernetes.observe import Children
from score_distill.executors.kubernetes.reconcile import Changes, Measured, reconcile
from score_distill.executors.kubernetes.settings import Settings

SETTINGS = Settings(worker="worker:1", trainer="trainer:1", serving="serving:1")
NOW = 1_000_000.0
UID = "0f6a1b2c-0000-4000-8000-000000000001"
ORDER = ["prepare", "demonstrate", "warmup", "mentor", "sft", "rl", "evaluate"]
Body = dict[str, Any]


def run(status: Body | None = None, generation: int = 1, **spec: Any) -> Body:
    base = {
        "student": {"model": "s3://b/student"},
        "teacher": {"model": "s3://b/teacher"},
        "tasks": {"train": {"uri": "s3://b/train"}, "eval": [{"name": "test", "uri": "s3://b/test"}]},
        "artifacts": {"uri": "s3://b/runs", "credentialsSecret": "s3"},
    }
    return {
        "apiVersion": "distill.score.dev/v1alpha1",
        "kind": "DistillationRun",
        "metadata": {"name": "one", "namespace": "team", "uid": UID, "generation": generation},
        "spec": base | spec,
        "status": status or {},
    }


class EnvState:
    """The children that a cluster would have after what was applied; a test says how they fare."""

    def __init__(self) -> None:
        self.jobs: dict[str, Body] = {}
        self.deployments: dict[str, Body] = {}
        self.pods: dict[str, Body] = {}

    @property
    def children(self) -> Children:
        return Children(list(self.jobs.values()), list(self.pods.values()), list(self.deployments.values()))

    def take(self, changes: Changes) -> None:
        for body in changes.apply:
            kind = {"Job": self.jobs, "Deployment": self.deployments}.get(body["kind"])
            if kind is not None:
                kind[body["metadata"]["name"]] = body
        for body in changes.delete:
            self.jobs.pop(body["metadata"]["name"], None)
            self.deployments.pop(body["metadata"]["name"], None)

    def ready(self) -> None:
        for body in self.deployments.values():
            body["status"] = {"readyReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}

    def end(self, job: str, summary: Summary | None, code: int = 0, **ended: Any) -> None:
        body = self.jobs[job]
        body["status"] = {"conditions": [{"type": "Failed" if code else "Complete", "status": "True"}]}
        labels = body["metadata"]["labels"] | {"batch.kubernetes.io/job-name": job}
        message = summary.bounded().decode() if summary else ""
        told = {"name": "stage", "state": {"terminated": {"exitCode": code, "message": message, **ended}}}
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [told]}
        spec = body["spec"]["template"]["spec"]
        self.pods[job] = {"metadata": {"name": f"{job}-0", "labels": labels}, "spec": spec, "status": status}


def one_pass(
    world: EnvState,
    body: Body,
    now: float = NOW,
    progress: dict[str, Progress] | None = None,
    asked: bool = True,
) -> Changes:
    """A pass, carried out: the body has the new status, the world the new children."""
    changes = reconcile(body, world.children, Measured(progress or {}, asked), SETTINGS, now)
    world.take(changes)
    if changes.status is not None:
        body["status"] = json.loads(json.dumps(changes.status))
    return changes


def condition(body: Body, kind: str) -> Body:
    return next(one for one in body["status"]["conditions"] if one["type"] == kind)


def step(body: Body, name: str) -> Body:
    return next(one for one in body["status"]["steps"] if one["name"] == name)


def come_to(name: str, order: Sequence[str] = ORDER, **spec: Any) -> tuple[EnvState, Body]:
    """A run whose step ``name`` has just been started for the first time."""
    world, body = EnvState(), run(**spec)
    for current in order:
        one_pass(world, body)
        world.ready()
        one_pass(world, body)
        if current == name:
            return world, body
        tokens = {"teacher": 60} if current == "demonstrate" else {}
        world.end(f"one-{current}-1", Summary(step=current, succeeded=True, tokens=tokens, digest="a" * 64))
    raise AssertionError(name)


def kinds(changes: Changes) -> list[str]:
    return [f"{body['kind']} {body['metadata']['name']}" for body in changes.apply]


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


def test_every_object_belongs_to_the_run_and_its_pods_are_restricted() -> None:
    world, _ = come_to("mentor")
    for made in [*world.jobs.values(), *world.deployments.values()]:
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (UID, True)
        pod = made["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            security = container["securityContext"]
            assert (security["readOnlyRootFilesystem"], security["capabilities"]) == (True, {"drop": ["ALL"]})
            assert security["allowPrivilegeEscalation"] is False


def test_the_sandbox_gets_no_key_and_no_store() -> None:
    world, _ = come_to("mentor")
    [sandbox] = world.jobs["one-mentor-1"]["spec"]["template"]["spec"]["initContainers"]
    assert "envFrom" not in sandbox
    assert {mount["name"] for mount in sandbox["volumeMounts"]} == {"socket", "scratch", "sandbox-tmp"}


def test_the_sandbox_has_the_libraries_that_the_manifest_names() -> None:
    world, _ = come_to("mentor", method={"agent": {"libraries": ["sympy"]}})
    [sandbox] = world.jobs["one-mentor-1"]["spec"]["template"]["spec"]["initContainers"]
    assert json.loads(sandbox["command"][-1])["libraries"] == ["sympy"]


def test_a_stage_is_told_all_that_it_needs_and_no_key() -> None:
    world, body = EnvState(), run()
    told = {}
    for current in ORDER:
        for _ in range(2):
            for made in one_pass(world, body).apply:
                if made["kind"] == "ConfigMap":
                    told[current] = StageConfig.model_validate_json(made["data"]["stage.json"])
            world.ready()
        world.end(f"one-{current}-1", Summary(step=current, succeeded=True))
    mentor = told["mentor"]
    assert (mentor.run, mentor.store, mentor.step) == (f"one-{UID}", "s3://b/runs", "mentor")
    assert mentor.student is not None
    assert mentor.teacher is not None
    assert (mentor.student.url, mentor.student.weights_url) == ("http://one-student:8000/v1", "http://one-student:8000")
    assert (mentor.teacher.key_file, mentor.teacher.weights_url) == ("/keys/teacher", None)
    assert mentor.sandbox == "unix:///run/score/sock"
    assert told["sft"].student is None


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


def test_what_a_retry_may_help_is_a_new_attempt_after_a_pause() -> None:
    world, body = come_to("sft")
    world.end("one-sft-1", Summary(step="sft", succeeded=False, message="the store is away"), int(Exit.INFRASTRUCTURE))
    changes = one_pass(world, body)
    assert (step(body, "sft")["state"], step(body, "sft")["message"]) == ("Retrying", "the store is away")
    assert condition(body, "Succeeded")["reason"] == "StepRetrying"
    assert changes.again is not None
    assert 0 < changes.again <= 4
    again = one_pass(world, body, NOW + 5)
    assert kinds(again) == ["ConfigMap one-sft-2", "Job one-sft-2"]
    assert (step(body, "sft")["state"], step(body, "sft")["attempt"]) == ("Running", 2)
    world.end("one-sft-2", Summary(step="sft", succeeded=True))
    one_pass(world, body, NOW + 9)
    assert step(body, "sft")["attempt"] == 2


@pytest.mark.parametrize("cause", ["StoreUnreachable", "StoreDenied", "StoreFull"])
def test_a_store_that_fails_is_named_while_it_is_tried_again_and_when_it_is_given_up(cause: str) -> None:
    world, body = come_to("mentor")
    lost = Summary(step="mentor", succeeded=False, reason="INFRASTRUCTURE", cause=cause, message="no answer")
    now = NOW
    for attempt in range(1, TRIES + 1):
        world.end(f"one-mentor-{attempt}", lost, int(Exit.INFRASTRUCTURE))
        one_pass(world, body, now)
        assert condition(body, "Succeeded")["reason"] == cause
        assert step(body, "mentor")["reason"] == cause
        one_pass(world, body, now := now + 120)
    assert (condition(body, "Succeeded")["status"], step(body, "mentor")["state"]) == ("False", "Failed")
    assert condition(body, "Succeeded")["reason"] == cause


def test_a_lost_pod_is_not_the_runs_fault() -> None:
    world, body = come_to("sft")
    world.jobs["one-sft-1"]["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimit"}]}
    one_pass(world, body)
    assert "its pod was lost" in step(body, "sft")["message"]
    assert kinds(one_pass(world, body, NOW + 60)) == ["ConfigMap one-sft-2", "Job one-sft-2"]


ENDS = [
    (int(Exit.BAD_INPUT), {}, "BadInput", "no such file"),
    (int(Exit.MODEL), {}, "Model", "no such file"),
    (137, {"reason": "OOMKilled"}, "Model", "OOMKilled"),
]


@pytest.mark.parametrize(("code", "ended", "reason", "words"), ENDS)
def test_what_a_retry_cannot_help_ends_the_run_until_its_spec_changes(
    code: int, ended: Body, reason: str, words: str
) -> None:
    world, body = come_to("warmup")
    world.end("one-warmup-1", Summary(step="warmup", succeeded=False, message="no such file"), code, **ended)
    one_pass(world, body)
    found = condition(body, "Succeeded")
    assert (found["status"], found["reason"]) == ("False", reason)
    assert words in found["message"]
    assert world.deployments == {}
    later = one_pass(world, body, NOW + 500)
    assert (later.apply, later.again) == ((), None)
    assert condition(body, "Succeeded") == found
    body["metadata"]["generation"] = 2
    assert "Job one-warmup-2" in kinds(one_pass(world, body, NOW + 600))


def test_a_failed_step_that_must_wait_for_its_servers_is_tried_again_all_the_same() -> None:
    world, body = come_to("mentor")
    world.end("one-mentor-1", Summary(step="mentor", succeeded=False, message="no"), int(Exit.BAD_INPUT))
    one_pass(world, body)
    assert condition(body, "Succeeded")["reason"] == "BadInput"
    body["metadata"]["generation"] = 2
    for later in (1, 2):
        one_pass(world, body, NOW + later)
        assert condition(body, "Succeeded")["reason"] == "StudentNotReady"
    world.ready()
    assert "Job one-mentor-2" in kinds(one_pass(world, body, NOW + 3))


def test_pods_of_an_earlier_job_of_the_name_say_nothing_of_this_one() -> None:
    world, body = come_to("sft")
    world.jobs["one-sft-1"]["metadata"]["uid"] = "new"
    world.end("one-sft-1", Summary(step="sft", succeeded=False, message="from before"), 143)
    world.pods["one-sft-1"]["metadata"]["ownerReferences"] = [{"uid": "old"}]
    one_pass(world, body)
    assert "its pod was lost" in step(body, "sft")["message"]


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


def test_an_endpoint_needs_no_teacher_and_its_key_is_mounted_from_the_users_secret() -> None:
    endpoint = {"url": "https://api/v1", "model": "m", "apiKeySecret": {"name": "mine", "key": "token"}}
    world, _ = come_to("demonstrate", teacher={"endpoint": endpoint})
    assert world.deployments == {}
    volumes = world.jobs["one-demonstrate-1"]["spec"]["template"]["spec"]["volumes"]
    [mounted] = [one["secret"] for one in volumes if one["name"] == "endpoint"]
    assert (mounted["secretName"], mounted["items"]) == ("mine", [{"key": "token", "path": "key"}])


def test_the_key_of_a_search_engine_is_where_stages_that_act_look_for_it() -> None:
    endpoint = {"url": "https://find/x", "apiKeySecret": {"name": "engine", "key": "api-key"}}
    world, _ = come_to("demonstrate", tools=["python", "search"], search={"endpoint": endpoint})
    pod = world.jobs["one-demonstrate-1"]["spec"]["template"]["spec"]
    [stage] = pod["containers"]
    [mounted] = [one["secret"] for one in pod["volumes"] if one["name"] == "search"]
    assert (mounted["secretName"], mounted["items"]) == ("engine", [{"key": "api-key", "path": "api-key"}])
    assert {"name": "SCORE_SECRETS", "value": "/secrets"} in stage["env"]
    assert {"name": "search", "mountPath": "/secrets/engine", "readOnly": True} in stage["volumeMounts"]
    assert "SCORE_SECRETS" not in str(pod["initContainers"])
    plain, _ = come_to("demonstrate")
    assert "SCORE_SECRETS" not in str(plain.jobs["one-demonstrate-1"])


def test_images_and_gpus_are_those_of_the_manifest() -> None:
    resources = {"trainer": {"gpus": 8, "limits": {"memory": "64Gi"}}}
    world, _ = come_to("warmup", images={"trainer": "mine:2"}, resources=resources)
    [stage] = world.jobs["one-warmup-1"]["spec"]["template"]["spec"]["containers"]
    assert stage["image"] == "mine:2"
    assert stage["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "8"}


@pytest.mark.parametrize(("gpus", "shared"), [(0, False), (1, False), (4, True)])
def test_a_model_is_shared_by_all_gpus_of_its_pod(gpus: int, shared: bool) -> None:
    world, _ = come_to("demonstrate", resources={"teacher": {"gpus": gpus}})
    command = world.deployments["one-teacher"]["spec"]["template"]["spec"]["containers"][0]["command"]
    assert ("--tensor-parallel-size" in command) is shared
    assert not shared or command[command.index("--tensor-parallel-size") + 1] == "4"


def test_pods_pull_their_images_by_the_manifests_secrets() -> None:
    world, _ = come_to("demonstrate", images={"pullSecrets": ["mine"]})
    for made in [*world.jobs.values(), *world.deployments.values()]:
        assert made["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "mine"}]


def test_a_model_is_started_anew_when_the_manifest_says_other_of_it_and_not_for_a_newer_operator() -> None:
    world, body = come_to("mentor")
    body["spec"]["resources"] = {"rollout": {"limits": {"memory": "8Gi"}}}
    assert one_pass(world, body).apply == ()
    newer = Settings(worker="worker:2", trainer="trainer:2", serving="serving:2")
    assert reconcile(body, world.children, Measured(), newer, NOW).apply == ()
    body["spec"]["resources"] = {"teacher": {"limits": {"memory": "8Gi"}}}
    assert kinds(one_pass(world, body)) == ["Deployment one-teacher"]
    assert one_pass(world, body).apply == ()


def policies(**spec: Any) -> dict[str, Body]:
    settings = replace(SETTINGS, egress=({"to": [{"ipBlock": {"cidr": "10.9.0.1/32"}}]},))
    changes = reconcile(run(**spec), Children(), Measured(), settings, NOW)
    assert [body["kind"] for body in changes.apply[:2]] == ["NetworkPolicy", "NetworkPolicy"]
    return {body["metadata"]["name"]: body["spec"] for body in changes.apply[:2]}


def test_policies_come_before_pods_and_let_stages_reach_models_and_their_store() -> None:
    made = policies()
    stages, models = made["one-stages"], made["one-models"]
    of_models = models["podSelector"]
    assert of_models["matchLabels"] == {"distill.score.dev/run-uid": UID}
    assert of_models["matchExpressions"][0]["values"] == ["teacher", "student"]
    assert models["ingress"] == [
        {"from": [{"podSelector": stages["podSelector"]}], "ports": [{"port": 8000, "protocol": "TCP"}]}
    ]
    reached = [one.get("to") for one in stages["egress"]]
    assert reached == [
        [{"podSelector": stages["podSelector"]}],
        [{"podSelector": of_models}],
        None,
        [{"ipBlock": {"cidr": "10.9.0.1/32"}}],
    ]
    assert [one.get("to") for one in models["egress"]] == reached[2:]
    assert stages["egress"][2]["ports"] == [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]


def test_who_may_scrape_reaches_the_models_too() -> None:
    prometheus = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    settings = replace(SETTINGS, egress=(), scrapers=(prometheus,))
    [_, models] = reconcile(run(), Children(), Measured(), settings, NOW).apply[:2]
    assert models["spec"]["ingress"][0]["from"][1:] == [prometheus]


@pytest.mark.parametrize(
    ("url", "port"), [("https://api/v1", 443), ("http://api/v1", 80), ("http://api:8443/v1", 8443)]
)
def test_a_teacher_of_the_users_is_reached_by_its_port_and_no_nodes_keys_are(url: str, port: int) -> None:
    last = policies(teacher={"endpoint": {"url": url, "model": "m"}})["one-stages"]["egress"][-1]
    assert last["ports"] == [{"port": port, "protocol": "TCP"}]
    assert last["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]


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


def trainer(**resources: int) -> tuple[Body, Changes]:
    """The pod of warmup with such a trainer, and the pass that made it."""
    world, body = EnvState(), run(resources={"trainer": resources})
    for name in ("prepare", "demonstrate"):
        one_pass(world, body)
        world.ready()
        one_pass(world, body)
        world.end(f"one-{name}-1", Summary(step=name, succeeded=True))
    changes = one_pass(world, body)
    return world.jobs["one-warmup-1"]["spec"]["template"]["spec"], changes


def environ(pod: Body) -> Body:
    return {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}


def test_a_trainer_of_one_process_is_the_stage_itself() -> None:
    pod, changes = trainer()
    assert pod["containers"][0]["command"][:4] == ["python3", "-m", "score_distill.cli", "stage"]
    assert "Service one-warmup-1" not in kinds(changes)
    assert "MASTER_ADDR" not in environ(pod)


def test_the_processes_of_one_pod_are_started_by_torchrun() -> None:
    pod, _ = trainer(processesPerNode=4)
    command = " ".join(pod["containers"][0]["command"])
    assert "torch.distributed.run --standalone --nproc_per_node 4 -m score_distill.cli" in command


def test_pods_that_train_together_meet_by_a_name_of_the_cluster() -> None:
    pod, changes = trainer(nodes=2)
    [service] = [one for one in changes.apply if one["kind"] == "Service" and "warmup" in one["metadata"]["name"]]
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert pod["subdomain"] == service["metadata"]["name"] == "one-warmup-1"
    told = environ(pod)
    assert (told["MASTER_ADDR"], told["WORLD_SIZE"]) == ("one-warmup-1-0.one-warmup-1", "2")
    pod, _ = trainer(nodes=2, processesPerNode=4)
    command = " ".join(pod["containers"][0]["command"])
    assert "--nnodes 2 --node-rank $(SCORE_NODE_RANK)" in command
    assert "--master-addr one-warmup-1-0.one-warmup-1" in command
    assert "SCORE_NODE_RANK" in environ(pod)


def test_claims_that_uris_name_are_mounted_read_only_where_they_are_read() -> None:
    world, _ = come_to("prepare", teacher={"model": "pvc://weights/teacher"})
    for made in (world.jobs["one-prepare-1"], world.deployments["one-teacher"]):
        pod = made["spec"]["template"]["spec"]
        [volume] = [one for one in pod["volumes"] if "persistentVolumeClaim" in one]
        assert volume["persistentVolumeClaim"] == {"claimName": "weights", "readOnly": True}
        readers = [*pod.get("initContainers", []), *pod["containers"]]
        [mount] = [one for reader in readers for one in reader["volumeMounts"] if one["name"] == volume["name"]]
        assert (mount["mountPath"], mount["readOnly"]) == ("/claims/weights", True)


def test_the_claim_of_a_corpus_is_mounted_where_it_is_read() -> None:
    world, _ = come_to("prepare", tools=["python", "search"], search={"corpus": "pvc://pages/wiki"})
    pod = world.jobs["one-prepare-1"]["spec"]["template"]["spec"]
    [mount] = [one for one in pod["containers"][0]["volumeMounts"] if one["name"].startswith("claim-")]
    assert (mount["mountPath"], mount["readOnly"]) == ("/claims/pages", True)
