"""Jobs that a queue admits, puts back and admits again. Kueue itself is not here: a stand-in flips what it flips."""

import logging

from kubernetes import client
from tests.cluster.control_plane import ControlPlane
from tests.cluster.waiting import eventually
from tests.integration.kubernetes.played import SETTINGS, Body, Namespace

from score_distill.executors.kubernetes.cluster import Cluster
from score_distill.executors.kubernetes.names import QUEUE, ROLE
from score_distill.executors.kubernetes.passes import Operator

NAME = "team-queue"


class QueueStandIn:
    """Does to Jobs with the queue's label what Kueue does: ``spec.suspend``, and nothing else."""

    def __init__(self, namespace: Namespace) -> None:
        self._batch, self._namespace = namespace.batch, namespace.name

    def waiting(self) -> list[client.V1Job]:
        listed = self._batch.list_namespaced_job(self._namespace, label_selector=f"{QUEUE}={NAME}")
        return [job for job in listed.items if job.spec.suspend]

    def admit(self) -> None:
        for job in self.waiting():
            self._suspend(job.metadata.name, False)

    def preempt(self, job: str) -> None:
        self._suspend(job, True)

    def _suspend(self, job: str, suspend: bool) -> None:
        self._batch.patch_namespaced_job(job, self._namespace, {"spec": {"suspend": suspend}})


def test_a_run_waits_in_its_queue_is_put_back_once_and_ends_as_if_it_had_not_been(control_plane: ControlPlane) -> None:
    namespace = Namespace(control_plane)
    queue = QueueStandIn(namespace)
    namespace.begin(scheduling={"queueName": NAME})
    operator = Operator(Cluster(namespace.api), SETTINGS, logging.getLogger("test"))

    def one_pass() -> Body:
        return namespace.one_pass(operator)

    def says(reason: str, message: str) -> None:
        status = one_pass()
        [going] = [one for one in status["conditions"] if one["type"] == "Progressing"]
        assert (going["status"], going["reason"]) == (str(reason == "StepRunning"), reason)
        assert going["message"] == message
        assert (status["steps"][0]["attempt"], status["steps"][0].get("failures", 0)) == (1, 0)

    def pods() -> list[client.V1Pod]:
        return list(namespace.core.list_namespaced_pod(namespace.name, label_selector=f"{ROLE}=stage").items)

    def has_pods(count: int) -> None:
        assert len(pods()) == count

    def waits() -> None:
        says("Queued", f"step prepare waits in queue {NAME} for its quota")
        has_pods(0)

    one_pass()
    [job] = queue.waiting()
    waits()

    queue.admit()
    eventually(lambda: has_pods(1))
    [pod] = pods()
    namespace.say(pod, "Running", True, {"running": {}})
    says("StepRunning", "step prepare")

    queue.preempt(job.metadata.name)
    eventually(waits)

    queue.admit()
    eventually(lambda: has_pods(1))
    assert pods()[0].metadata.uid != pod.metadata.uid
    says("StepRunning", "step prepare")

    jobs = set[tuple[str, str]]()

    def ends() -> None:
        listed = namespace.batch.list_namespaced_job(namespace.name).items
        jobs.update((one.metadata.name, one.metadata.uid) for one in listed)
        queue.admit()
        namespace.play()
        assert [one["status"] for one in one_pass()["conditions"] if one["type"] == "Succeeded"] == ["True"]

    eventually(ends, within=120, every=0.05)
    steps = namespace.run()["status"]["steps"]
    assert {(one["state"], one["attempt"], one.get("failures", 0)) for one in steps} == {("Succeeded", 1, 0)}
    assert sorted(name for name, _ in jobs) == sorted(f"quickstart-{one['name']}-1" for one in steps)
    assert (job.metadata.name, job.metadata.uid) in jobs
