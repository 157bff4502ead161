"""Names and labels of everything that belongs to a run. Names are a function of the run, its step and the attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from score_distill.api import GROUP, KIND, VERSION, DistillationRun
from score_distill.contract import Role
from score_distill.control.pipeline import Step, takes_at_once
from score_distill.manifest import parse

Body = dict[str, Any]

MANAGER = "score-operator"
RUN, UID, ROLE, STEP, ATTEMPT = (f"{GROUP}/{name}" for name in ("run", "run-uid", "role", "step", "attempt"))
MADE_OF = f"{GROUP}/made-of"
"""Annotation: what in the manifest an object follows from, as a digest."""
QUEUE = "kueue.x-k8s.io/queue-name"
GROUP_NAME, GROUP_COUNT = (f"kueue.x-k8s.io/pod-group-{name}" for name in ("name", "total-count"))
GATED_BY = "kueue.x-k8s.io/pod-suspending-parent"
"""Annotation: Kueue gates the pod, whatever makes it. Without it pods of a Job are the Job's affair."""
ENDS_WITH_ITS_PODS = "kueue.x-k8s.io/retriable-in-group"
"""Annotation, "false": a group gives its quota back when all of its pods have ended; those of models never succeed."""
SERVER = "vllm"
"""The container of a model's pod that serves it."""
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class Owner:
    """The run that objects are made for; ``uid`` tells runs of one name apart."""

    run: DistillationRun
    uid: str

    @classmethod
    def of(cls, body: Body) -> "Owner":
        """Raises ManifestError."""
        run = parse({name: body[name] for name in ("apiVersion", "kind", "metadata", "spec")})
        return cls(run, str(body["metadata"]["uid"]))

    @property
    def name(self) -> str:
        return self.run.metadata.name

    @property
    def key(self) -> str:
        """Of the run in its artifact store."""
        return f"{self.name}-{self.uid}"

    @property
    def keys(self) -> str:
        """Of the Secret with the keys of its model servers."""
        return f"{self.name}-keys-{self.uid[:8]}"

    def model(self, role: str) -> str:
        return f"{self.name}-{role}"

    def job(self, step: str, attempt: int) -> str:
        return f"{self.name}-{step}-{attempt}"

    @property
    def queued(self) -> dict[str, str]:
        """The label by which Kueue admits Jobs and Deployments, where the run names a queue."""
        queue = self.run.spec.scheduling.queue_name
        return {QUEUE: queue} if queue else {}

    def group(self, step: Step) -> Body:
        """What the pods of a step that takes its GPUs at once, and of its servers, have for Kueue to admit them as one.

        Empty without a queue, and for other steps: their Jobs and Deployments are admitted one by one.
        """
        spec = self.run.spec
        if not self.queued or not takes_at_once(step, spec):
            return {}
        count = spec.resources.trainer.nodes + len(self.served(step))
        annotations = {GROUP_COUNT: str(count), GATED_BY: MANAGER, ENDS_WITH_ITS_PODS: "false"}
        return {"labels": self.queued | {GROUP_NAME: f"{step.name}-{self.uid}"}, "annotations": annotations}

    def served(self, step: Step) -> list[Role]:
        """The models that a step needs and the run serves itself."""
        endpoint = self.run.spec.teacher.endpoint is not None
        return [role for role in get_args(Role) if role in step.needs and not (role == "teacher" and endpoint)]

    def labels(self, role: str, **more: str) -> dict[str, str]:
        own = {
            "app.kubernetes.io/managed-by": MANAGER,
            "app.kubernetes.io/part-of": "score-distill",
            RUN: self.name,
            UID: self.uid,
            ROLE: role,
        }
        return own | {f"{GROUP}/{name}": value for name, value in more.items()}

    def metadata(self, name: str, labels: Mapping[str, str]) -> Body:
        """Of an object that goes when the run goes."""
        reference = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
        return {
            "name": name,
            "namespace": self.run.metadata.namespace,
            "labels": dict(labels),
            "ownerReferences": [reference],
        }


def owned(body: Body, uid: str) -> bool:
    """Whether whoever has that uid controls the object."""
    return any(one.get("uid") == uid and one.get("controller") for one in body["metadata"].get("ownerReferences") or ())
