"""Runs that share eight GPUs: whatever the order in which their pods are placed, none waits for ever and all finish."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.unit.kubernetes.world import NOW, Body, EnvState, condition, one_pass, run

from score_distill.contract import Summary
from score_distill.executors.kubernetes.names import STEP
from score_distill.executors.kubernetes.observe import over

GPUS = 8
DAY = 86_400.0
SIZES = [(2, 2, 4, 1), (4, 1, 3, 1), (1, 1, 3, 2), (4, 4, 8, 1), (0, 4, 4, 1)]
"""Of teacher, student, a node of the trainer, and how many of these; the fourth never trains beside its models."""


@dataclass
class Run:
    """A run with its children; ``due`` is when it asked to be looked at, ``times`` when its pods get any further."""

    body: Body
    world: EnvState = field(default_factory=EnvState)
    due: float = NOW
    times: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.body["status"]) and condition(self.body, "Succeeded")["status"] == "True"


class Cluster:
    """Eight GPUs and a scheduler that places pods one by one, in an order that the seed gives."""

    def __init__(self, seed: int, count: int, deadline: int | None) -> None:
        self.now, self.random = NOW, random.Random(seed)
        self.runs = [Run(self._body(n, deadline)) for n in range(count)]

    def _body(self, n: int, deadline: int | None) -> Body:
        teacher, student, trainer, nodes = self.random.choice(SIZES)
        sizes = {"teacher": {"gpus": teacher}, "student": {"gpus": student}}
        sizes["trainer"] = {"gpus": trainer, "nodes": nodes}
        alone = teacher + student + trainer * nodes <= GPUS
        spec: Body = {"resources": sizes, "scheduling": {"ahead": self.random.random() < 0.3}}
        spec |= {"method": {"rl": {"enabled": alone}}} | ({"pendingDeadlineSeconds": deadline} if deadline else {})
        body = run(**spec)
        body["metadata"] |= {"name": f"run-{n}", "uid": f"0f6a1b2c-0000-4000-8000-00000000000{n}"}
        return body

    def play(self, until: float) -> None:
        """Until every run has finished, nothing can happen any more, or it is late."""
        while self.now < until and not all(one.finished for one in self.runs):
            for one in self.random.sample(self.runs, len(self.runs)):
                if one.due <= self.now:
                    changes = one_pass(one.world, one.body, self.now)
                    done = not changes.apply and not changes.delete
                    one.due = (self.now + (changes.again or DAY * 365)) if done else self.now
            if self._go_on():
                continue
            times = [*(one.due for one in self.runs), *(at for one in self.runs for at in one.times.values())]
            self.now = min((at for at in times if at > self.now), default=until)

    def _go_on(self) -> bool:
        """Let pods come and go, be placed, begin and end; whether anything changed that a run hears of."""
        before = [self._seen(one) for one in self.runs]
        for one in self.runs:
            self._make_pods(one)
        self._place()
        for one in self.runs:
            self._serve(one)
            self._end_jobs(one)
        changed = [one for one, was in zip(self.runs, before, strict=True) if self._seen(one) != was]
        for one in changed:
            one.due = self.now
        return any(one.due <= self.now for one in self.runs)

    @staticmethod
    def _seen(one: Run) -> list[Any]:
        world = one.world
        bodies = [*world.pods.values(), *world.jobs.values(), *world.deployments.values()]
        return [(body["metadata"]["name"], str(body.get("status")), body["spec"].get("nodeName")) for body in bodies]

    def _make_pods(self, one: Run) -> None:
        world = one.world
        wanted = {f"{name}-0": body for name, body in world.deployments.items()}
        for name, job in world.jobs.items():
            if not over(job):
                wanted |= {f"{name}-{index}": job for index in range(job["spec"]["parallelism"])}
        for name in world.pods.keys() - wanted.keys() - world.jobs.keys():
            world.pods.pop(name)
            one.times.pop(name, None)
        for name in one.times.keys() - world.pods.keys() - world.jobs.keys():
            one.times.pop(name)
        for name, maker in wanted.items():
            if name not in world.pods:
                labels = dict(maker["metadata"]["labels"])
                if maker["kind"] == "Job":
                    labels["batch.kubernetes.io/job-name"] = maker["metadata"]["name"]
                spec = dict(maker["spec"]["template"]["spec"])
                world.pods[name] = {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {}}

    def _place(self) -> None:
        pods = [(one, pod) for one in self.runs for pod in one.world.pods.values()]
        free = GPUS - sum(gpus(pod) for _, pod in pods if pod["spec"].get("nodeName") and holds(pod))
        waiting = [(one, pod) for one, pod in pods if not pod["spec"].get("nodeName") and holds(pod)]
        for one, pod in self.random.sample(waiting, len(waiting)):
            if gpus(pod) <= free:
                free -= gpus(pod)
                pod["spec"]["nodeName"] = "node"
                pod["status"] = {"phase": "Running"}
                one.times[pod["metadata"]["name"]] = self.now + self.random.uniform(5, 60)
            else:
                why = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU left"}
                pod["status"] = {"phase": "Pending", "conditions": [why]}
        assert free >= 0

    def _serve(self, one: Run) -> None:
        for name, body in one.world.deployments.items():
            if one.times.get(f"{name}-0", DAY * 1e6) <= self.now:
                body["status"] = {"readyReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}

    def _end_jobs(self, one: Run) -> None:
        """A stage ends when all of its pods and all servers that it needs have been there for a while."""
        world = one.world
        for name, job in world.jobs.items():
            pods = [pod for key, pod in world.pods.items() if key.rpartition("-")[0] == name]
            if over(job) or not pods or not all(pod["spec"].get("nodeName") for pod in pods):
                continue
            if not all(f"{one.body['metadata']['name']}-{role}" in served(world) for role in asked(job)):
                continue
            end = one.times.setdefault(name, self.now + self.random.uniform(10, 300))
            if end <= self.now:
                digest = {"digest": "a" * 64}
                world.end(name, Summary(step=job["metadata"]["labels"][STEP], succeeded=True, **digest))


def gpus(pod: Body) -> int:
    limits = (one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"])
    return sum(int(one.get("nvidia.com/gpu", 0)) for one in limits)


def holds(pod: Body) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def served(world: EnvState) -> set[str]:
    return {name for name, body in world.deployments.items() if body.get("status")}


def asked(job: Body) -> list[str]:
    """The models of which the stage has the keys."""
    volumes = job["spec"]["template"]["spec"]["volumes"]
    keys = next((one["secret"]["items"] for one in volumes if one["name"] == "keys"), [])
    return [one["key"] for one in keys]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("seed", range(50))
def test_runs_that_share_gpus_all_finish_in_any_order(seed: int, count: int) -> None:
    cluster = Cluster(seed, count, deadline=120)
    cluster.play(NOW + DAY)
    assert [one.finished for one in cluster.runs] == [True] * count
    for one in cluster.runs:
        steps = one.body["status"]["steps"]
        assert {(step["state"], step["attempt"], step.get("failures", 0)) for step in steps} == {("Succeeded", 1, 0)}


def test_without_giving_back_some_of_these_orders_would_wait_for_ever() -> None:
    stuck = 0
    for seed in range(6):
        cluster = Cluster(seed, 3, deadline=604_800)
        cluster.play(NOW + DAY)
        stuck += not all(one.finished for one in cluster.runs)
    assert stuck


def test_runs_whose_manifests_set_no_deadline_finish_too() -> None:
    for seed in range(6):
        cluster = Cluster(seed, 3, deadline=None)
        cluster.play(NOW + DAY)
        assert [one.finished for one in cluster.runs] == [True] * 3
