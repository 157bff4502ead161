"""Each layer alone: what it stops, shown in a process that has put on no other; and no start without a required one."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pyseccomp
import pytest
from tests.sandboxes import restricted

from score_distill.sandbox.client import SandboxError
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

SOURCE = os.path.join(sysconfig.get_path("stdlib"), "os.py")
PRELUDE = f"""
import ctypes, json, os, resource, socket, sys
from score_distill.sandbox import confine, landlock, namespaces, seccomp
from score_distill.sandbox.limits import Limits
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
SOURCE = {SOURCE!r}
def tried(call, *args):
    try:
        return call(*args) is None or 'done'
    except OSError as error:
        return type(error).__name__
"""


def alone(code):
    """What a fresh interpreter reports that runs ``code`` with nothing but no_new_privs on."""
    done = subprocess.run([sys.executable, "-c", PRELUDE + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_without_a_layer_everything_here_is_possible():
    code = "print(json.dumps([tried(open, '/etc/passwd'), tried(socket.socket), tried(os.listdir, '/')]))"
    assert alone(code) == ["done", "done", "done"]


def test_landlock_stops_what_is_outside_and_lets_libraries_be_read():
    code = """
landlock.restrict([os.path.dirname(SOURCE)])
calls = [(open, SOURCE), (open, '/etc/passwd'), (os.listdir, '/'), (open, '/tmp/sandbox-layer', 'w')]
calls += [(open, SOURCE, 'a'), (os.mkdir, '/tmp/sandbox-layer'), (os.symlink, 'a', '/tmp/sandbox-layer')]
print(json.dumps([tried(*call) for call in calls]))
"""
    assert alone(code) == ["done"] + ["PermissionError"] * 6


def test_landlock_stops_signals_and_tcp():
    code = """
landlock.restrict([os.path.dirname(SOURCE)])
listener = socket.socket()
print(json.dumps([tried(os.kill, os.getppid(), 0), tried(listener.bind, ('127.0.0.1', 0))]))
"""
    assert alone(code) == ["PermissionError", "PermissionError"]


def test_the_allow_list_stops_what_it_does_not_name():
    code = """
confine._filter(seccomp.allow_list(), 0)
calls = [(socket.socket,), (os.fork,), (os.kill, os.getpid(), 0), (os.pipe,), (os.execv, '/bin/true', ['true'])]
print(json.dumps([tried(*call) for call in calls] + [tried(os.getpid)]))
"""
    assert alone(code) == ["PermissionError"] * 5 + ["done"]


def test_calls_that_need_a_grant_fail_when_nobody_grants_them():
    code = """
os.close(confine._filter(seccomp.ask_list(), 8))
flags = os.O_WRONLY | os.O_CREAT
calls = [(os.open, '/tmp/sandbox-layer', flags), (os.mkdir, '/tmp/sandbox-layer'), (os.open, SOURCE, os.O_RDONLY)]
print(json.dumps([tried(*call) for call in calls] + [libc.syscall(56, 0x8011, 0, 0, 0, 0)]))
"""
    assert alone(code) == ["OSError", "OSError", "done", -1]


def test_namespaces_leave_no_files_and_no_network():
    code = """
import tempfile
folder = tempfile.mkdtemp()
assert namespaces.enter([os.path.dirname(SOURCE), folder], folder)
calls = [(open, SOURCE), (os.stat, '/etc'), (os.stat, '/proc'), (open, '/x', 'w'), (open, folder + '/x', 'w')]
print(json.dumps([tried(*call) for call in calls] + [[name for _, name in socket.if_nameindex()]]))
"""
    assert alone(code) == ["done", "FileNotFoundError", "FileNotFoundError", "OSError", "OSError", ["lo"]]


def test_privileges_are_gone_for_good():
    code = """
confine._drop_privileges()
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
caps = [int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapAmb')]
print(json.dumps([os.getuid() != 0, os.getgid() != 0, caps, tried(os.setuid, 0), tried(os.chroot, '/')]))
"""
    assert alone(code) == [True, True, [0] * 4, "PermissionError", "PermissionError"]


def test_resources_are_bounded_and_cannot_be_unbound():
    code = """
confine._bound_resources(Limits(file_bytes=8192, output_bytes=8192, memory_bytes=32 << 20), 1 << 30)
kinds = 'FSIZE NOFILE CORE MEMLOCK MSGQUEUE SIGPENDING'.split()
found = {kind: resource.getrlimit(getattr(resource, 'RLIMIT_' + kind)) for kind in kinds}
print(json.dumps(found | {'AS': resource.getrlimit(resource.RLIMIT_AS)[0]}))
"""
    expected = {"FSIZE": 8192, "NOFILE": 32, "CORE": 0, "MEMLOCK": 0, "MSGQUEUE": 0, "SIGPENDING": 0}
    found = alone(code)
    assert found.pop("AS") == (1 << 30) + (32 << 20)
    assert found == {kind: [bound, bound] for kind, bound in expected.items()}


def daemon_of(sandbox):
    peer = sandbox._transport.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid


def status_of(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


async def stopped(pid):
    """The status of a process once it has stopped; it was told to a moment ago."""
    async with asyncio.timeout(30):
        while (status := status_of(pid))["State"] != "T (stopped)":
            await asyncio.sleep(0)
    return status


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_frozen_state_is_a_stopped_process_behind_every_layer():
    async with start(Limits(), libraries=()) as sandbox:
        branch = (await (await sandbox.open()).run("x = 1")).branch
        states = children_of(daemon_of(sandbox))
        assert len(states) == 2
        for status in [await stopped(pid) for pid in states]:
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and int(status["Seccomp_filters"]) >= 2
            assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
            assert "0" not in status["Uid"].split() and status["Threads"] == "1"
        code = "import os\nprint(dict(os.environ), [n for n in range(99) if os.path.lexists(f'/proc/self/fd/{n}')])\n"
        code += "open_ = []\nfor n in range(99):\n    try: os.fstat(n); open_.append(n)\n    except OSError: pass\n"
        assert (await branch.run(code + "print(open_)")).output.endswith("[0, 1, 2, 3]")


async def test_the_memory_of_the_daemon_is_closed_to_other_processes_of_its_user():
    async with start(Limits(), libraries=()) as sandbox:
        assert Path(f"/proc/{daemon_of(sandbox)}/environ").stat().st_uid == 0


LOOK = """
import os
links = ["cwd", "root", "exe", "fd/0", "fd/1", "fd/3", "ns/net"]
files = ["environ", "maps", "cmdline", "mem", "stat", "status", "fdinfo/1", "cwd/secret"]
folders = ["fd", "task", "map_files", "cwd", "root"]
tries = [(os.readlink, links), (os.stat, links), (os.chdir, ["cwd", "root"]), (os.listdir, folders)]
tries += [(lambda path: open(path, "rb").read(), [*links, *files]), (lambda path: open(path, "r+b"), [*links, *files])]
for call, names in tries:
    for name in names:
        try:
            print("SEEN", name, call(f"/proc/{PID}/{name}"))
        except OSError as error:
            print(name, type(error).__name__)
"""


async def test_without_namespaces_no_session_sees_another_through_proc():
    """Neither one that runs, and waits for its tool, nor one that is frozen."""
    seen = []

    async def look(args, kwargs):
        seen.append((await (await sandbox.open()).run(LOOK.replace("PID", str(args[0])))).output)

    async with restricted(Limits(observation_chars=10_000)) as sandbox:
        assert "namespaces" not in sandbox.layers
        branch = await sandbox.open(tools={"look": look})
        code = "import os\nopen('secret', 'w').write('S')\nlook(os.getpid())\nprint(os.getpid())"
        await look([int((await branch.run(code)).output)], {})
    assert len(seen) == 2
    for output in seen:
        assert len(output.splitlines()) == 51
        assert [line for line in output.splitlines() if not line.endswith(" PermissionError")] == []


async def test_without_namespaces_a_long_session_goes_on_and_its_folder_with_it():
    async with restricted(Limits()) as sandbox:
        branch = await sandbox.open()
        for _ in range(20):
            result = await branch.run("open('log', 'a').write('x')\nprint(open('log').read())")
            branch = result.branch
        assert result.output == "x" * 20


WITHOUT = """
import ctypes, os, sys, pyseccomp
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for name in {names!r}:
    rules.add_rule(pyseccomp.ERRNO(38), name)
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
rules.load()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def started_without(*names, **arguments):
    """How a daemon ends that is started on a kernel without some system calls."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o711)
        os.mkdir(f"{folder}/scratch")
        given = {"limits": {}, "socket": f"{folder}/s", "scratch": f"{folder}/scratch", "libraries": [], **arguments}
        command = [sys.executable, "-c", WITHOUT.format(names=names), "-m", "score_distill.sandbox.supervisor"]
        held, _ = pipe = os.pipe()
        try:
            return subprocess.run([*command, json.dumps(given)], stdin=held, capture_output=True, text=True, timeout=60)
        finally:
            for descriptor in pipe:
                os.close(descriptor)


def test_the_daemon_refuses_a_machine_without_landlock_and_says_so():
    done = started_without("landlock_create_ruleset")
    assert done.returncode != 0
    assert "this machine lacks landlock" in done.stderr and "allow_missing" in done.stderr


def test_the_daemon_refuses_a_machine_without_filters_that_ask():
    done = started_without("seccomp")
    assert done.returncode != 0
    assert "user notification" in done.stderr


async def test_a_name_that_is_no_layer_is_refused():
    with pytest.raises(SandboxError):
        async with start(Limits(), libraries=(), allow_missing=["firewall"]):
            pass


def test_the_filters_name_only_calls_that_this_machine_has():
    from score_distill.sandbox import seccomp

    assert set(seccomp.names(("clone", "openat"))) == {
        pyseccomp.resolve_syscall(pyseccomp.system_arch(), name) for name in ("clone", "openat")
    }
