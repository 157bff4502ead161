"""The pods of a step that trains: one process, several of one pod, several pods."""

from tests.unit.kubernetes.world import Body, EnvState, kinds, one_pass, run

from score_distill.contract import Summary
from score_distill.executors.kubernetes.reconcile import Changes


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


def test_each_gpu_has_its_process() -> None:
    pod, _ = trainer(gpus=8)
    command = " ".join(pod["containers"][0]["command"])
    assert "torch.distributed.run --standalone --nproc_per_node 8 -m score_distill.cli" in command


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
