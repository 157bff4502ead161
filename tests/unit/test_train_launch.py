import subprocess
import sys

from score_distill.train.launch import Nodes, Process, deadline_of, process, torchrun


def test_a_process_alone_is_its_own_leader():
    assert process({}) == Process(rank=0, ranks=1, local_rank=0)
    assert process({}).leads


def test_torchrun_names_rank_and_peers():
    me = process({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "HOME": "/"})
    assert me == Process(rank=3, ranks=8, local_rank=1)
    assert not me.leads


def test_one_process_needs_no_launcher():
    assert torchrun(1, "a.b", ["--x"]) == [sys.executable, "-m", "a.b", "--x"]


def test_several_processes_do():
    command = torchrun(2, "a.b", ["--x"])
    assert command[1:4] == ["-m", "torch.distributed.run", "--standalone"]
    assert command[4:] == ["--nproc_per_node", "2", "-m", "a.b", "--x"]


def test_several_processes_on_each_of_several_machines_meet_at_the_first() -> None:
    command = torchrun(4, "a.b", ["--x"], Nodes(count=2, rank=1, address="job-0.svc", port=29501), deadline=90)
    assert " ".join(command[3:]) == (
        "--nnodes 2 --node-rank 1 --rdzv-backend static --rdzv-conf timeout=90 "
        "--master-addr job-0.svc --master-port 29501 --nproc_per_node 4 -m a.b --x"
    )


def test_one_machine_of_several_meets_nobody_elsewhere() -> None:
    assert "--standalone" in torchrun(4, "a.b", [], Nodes(count=1, rank=0, address="here"))


def test_one_process_on_each_machine_needs_no_launcher_so_that_the_exit_code_is_its_own() -> None:
    assert torchrun(1, "a.b", [], Nodes(count=2, rank=1, address="job-0.svc")) == [sys.executable, "-m", "a.b"]


def test_how_long_peers_are_waited_for_can_be_told() -> None:
    assert (deadline_of({}), deadline_of({"SCORE_JOIN_SECONDS": "5"})) == (600.0, 5.0)


def test_naming_a_process_imports_no_torch():
    check = "import sys, score_distill.train.launch, score_distill.train.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
