import subprocess
import sys

from score_distill.train.launch import Process, process, torchrun


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
    assert command[-5:] == ["--nproc_per_node", "2", "-m", "a.b", "--x"][-5:]


def test_naming_a_process_imports_no_torch():
    check = "import sys, score_distill.train.launch, score_distill.train.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
