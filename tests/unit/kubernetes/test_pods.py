"""What is in the pods of a run: images, GPUs, mounts, keys, and what their stage and their sandbox are told."""

import json
from typing import Any

import pytest
from pydantic import BaseModel, create_model
from tests.unit.kubernetes.world import NOW, ORDER, UID, Body, EnvState, come_to, kinds, one_pass, run

from score_distill.contract import StageConfig, Summary
from score_distill.control.pipeline import Step
from score_distill.control.policy import Start
from score_distill.executors.kubernetes import models, steps
from score_distill.executors.kubernetes.names import Owner
from score_distill.executors.kubernetes.reconcile import Measured, reconcile
from score_distill.executors.kubernetes.settings import Settings, from_environ
from score_distill.manifest import parse


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


SIZE = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}}
SIZES: Body = {"teacher": SIZE | {"gpus": 2}, "student": SIZE, "rollout": SIZE, "trainer": SIZE}


def resources_of(name: str, **spec: Any) -> dict[str, Body]:
    """Of each container of the pods that a step needs."""
    world, _ = come_to(name, **spec)
    pods = [made["spec"]["template"]["spec"] for made in (*world.jobs.values(), *world.deployments.values())]
    found = [one for pod in pods for one in (*pod.get("initContainers", []), *pod["containers"])]
    return {one["name"]: one.get("resources", {}) for one in found}


@pytest.mark.parametrize("name", ORDER)
def test_every_container_asks_for_something_and_has_limits_where_the_manifest_gives_sizes(name: str) -> None:
    for container, given in resources_of(name, resources=SIZES).items():
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= given[kind].keys(), (container, given)


def test_what_fetches_a_model_gets_what_its_server_gets_and_no_gpu() -> None:
    world, _ = come_to("demonstrate", resources=SIZES)
    [fetch] = world.deployments["one-teacher"]["spec"]["template"]["spec"]["initContainers"]
    assert fetch["resources"] == SIZE


def test_the_sandbox_may_use_a_core_more_than_its_rollout_and_the_memory_of_four_steps() -> None:
    given = resources_of("mentor", resources=SIZES, method={"agent": {"memoryMib": 100}})["sandbox"]
    assert given == {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "5", "memory": "400Mi"}}


def test_the_resources_of_gateway_and_sandbox_are_those_of_the_installation() -> None:
    gateway, sandbox = {"limits": {"cpu": "3"}}, {"requests": {"cpu": "1"}, "limits": {"memory": "9Gi"}}
    told = json.dumps({"gateway": gateway, "sandbox": sandbox})
    images = {f"SCORE_IMAGE_{name}": "any:1" for name in ("WORKER", "TRAINER", "SERVING")}
    settings = from_environ({**images, "SCORE_BESIDE": told})
    body = run()
    owner = Owner(parse({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")}), UID)
    step = Step("mentor", "mentor", (), frozenset({"student", "sandbox"}))
    _, deployment = models.objects(owner, "student", settings, step)
    assert deployment["spec"]["template"]["spec"]["containers"][1]["resources"] == gateway
    [*_, job] = steps.objects(owner, Start(step, 1, None), settings)
    [found] = job["spec"]["template"]["spec"]["initContainers"]
    assert found["resources"] == {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "9Gi"}}


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


def test_an_endpoint_needs_no_teacher_and_its_key_is_mounted_from_the_users_secret() -> None:
    headers = [{"name": "X-Team", "value": "a"}, {"name": "api-key", "secret": {"name": "azure", "key": "k"}}]
    endpoint = {"url": "https://api/v1", "model": "m", "apiKeySecret": {"name": "mine", "key": "token"}}
    endpoint |= {"headers": headers, "body": {"reasoning_effort": "low"}, "omit": ["seed"]}
    world, _ = come_to("demonstrate", teacher={"endpoint": endpoint})
    assert world.deployments == {}
    volumes = world.jobs["one-demonstrate-1"]["spec"]["template"]["spec"]["volumes"]
    [mounted] = [one["secret"] for one in volumes if one["name"] == "endpoint"]
    [header] = [one["secret"] for one in volumes if one["name"].startswith("header-")]
    assert (header["secretName"], header["items"]) == ("azure", [{"key": "k", "path": "value"}])
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


def newer(part: BaseModel) -> BaseModel:
    """The same words of a manifest, read by an operator that knows one more field with a default."""
    cls = create_model(f"Newer{type(part).__name__}", __base__=type(part), later=(int, 7))
    return cls.model_validate(part.model_dump(exclude_unset=True))


@pytest.mark.parametrize("spec", [{}, {"scheduling": {"nodeSelector": {"pool": "a"}}, "images": {"worker": "w:1"}}])
@pytest.mark.parametrize("part", ["teacher", "student", "scheduling", "images", "resources"])
def test_a_field_that_a_newer_operator_knows_starts_no_model_anew(part: str, spec: Body) -> None:
    def made(owner: Owner) -> list[str]:
        return [models.made_of(owner, role, {}) for role in ("teacher", "student")]

    body = run(**spec)
    owner = Owner(parse({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")}), UID)
    told = owner.run.spec
    later: BaseModel = newer(getattr(told, part))
    if part == "resources":
        later = told.resources.model_copy(
            update={role: newer(told.resources.teacher) for role in ("teacher", "student")}
        )
    upgraded = owner.run.model_copy(update={"spec": told.model_copy(update={part: later})})
    assert made(Owner(upgraded, UID)) == made(owner)
    moved = told.scheduling.model_copy(update={"node_selector": {"pool": "b"}})
    changed = owner.run.model_copy(update={"spec": told.model_copy(update={"scheduling": moved})})
    assert not {*made(Owner(changed, UID))} & {*made(owner)}
