"""Memory of a session is bounded over all its states; a clone that does not say whose it is costs next to nothing."""

import asyncio
import socket
import struct
from pathlib import Path

from score_distill.sandbox.client import Sandbox
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start
from score_distill.sandbox.process import cpu_seconds

MIB = 1 << 20
LARGE = "x = bytearray(b'x') * (90 << 20)"
SNAPSHOT = "x = bytearray(b'x') * (40 << 20)"


def cpu_seconds_of(pid: int) -> float:
    try:
        return cpu_seconds(pid)
    except OSError:  # it has ended
        return 0.0


def children_of(sandbox: Sandbox) -> set[int]:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(sandbox.socket_path)
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


async def test_the_states_of_a_session_together_have_a_bound_and_those_of_another_their_own() -> None:
    limits = Limits(memory_bytes=128 * MIB, session_memory_bytes=200 * MIB)
    async with start(limits, libraries=()) as sandbox:
        states = [await sandbox.open()]
        while (result := await states[-1].run(SNAPSHOT)).error is None:
            states.append(result.branch)
            assert len(states) < 10
        assert result.output == "MemoryError: all states of the session together needed more than 200 MiB"
        assert len(states) in (4, 5)
        other = await (await sandbox.open()).run(SNAPSHOT)
        assert other.error is None
        for state in states[2:]:
            await state.close()
        assert (await states[1].run(SNAPSHOT)).error is None


async def test_states_that_share_what_they_hold_pay_for_it_once() -> None:
    limits = Limits(memory_bytes=128 * MIB, session_memory_bytes=200 * MIB)
    async with start(limits, libraries=()) as sandbox:
        base = (await (await sandbox.open()).run(SNAPSHOT)).branch
        results = [await base.run("y = 1") for _ in range(10)]
        assert [result.error for result in results] == [None] * 10


async def test_honest_states_with_libraries_pay_for_what_is_their_own() -> None:
    async with start(Limits(session_memory_bytes=256 * MIB)) as sandbox:
        code = "import numpy, sympy\nx = sympy.expand((sympy.Symbol('x') + 1) ** 3)"
        base = (await (await sandbox.open()).run(code)).branch
        async with asyncio.TaskGroup() as group:
            steps = [group.create_task(base.run(f"y = numpy.ones({n})")) for n in range(20)]
        assert [step.result().error for step in steps] == [None] * 20


async def test_a_session_is_watched_while_its_steps_run() -> None:
    limits = Limits(memory_bytes=128 * MIB, session_memory_bytes=200 * MIB, wall_seconds=120)
    async with start(limits, libraries=()) as sandbox:
        root, other = await sandbox.open(), await sandbox.open()
        steps = [asyncio.ensure_future(root.run(f"{LARGE}; import time; time.sleep(99)")) for _ in range(3)]
        (ended, *_), others = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
        assert (await ended).output == "MemoryError: all states of the session together needed more than 200 MiB"
        assert (await other.run(LARGE)).error is None
        for step in others:
            step.cancel()


async def test_a_clone_that_computes_instead_of_saying_whose_it_is_is_ended_soon() -> None:
    code = """
import sys
session = sys.modules['score_distill.sandbox.session']
class Libc:
    syscall, setitimer = session._LIBC.syscall, session._LIBC.setitimer
    def prctl(self, *args):
        while True: pass
session._LIBC = Libc()
"""
    async with start(Limits(), libraries=()) as sandbox:
        before = children_of(sandbox)
        result = await (await sandbox.open()).run(code)
        assert result.error is None, result.output
        step, used = asyncio.ensure_future(result.branch.run("pass")), 0.0
        while not step.done():
            used = max([used, *map(cpu_seconds_of, children_of(sandbox) - before)])
            await asyncio.sleep(0.01)
        assert used < 2  # and not until it is given up after five seconds
        assert (await step).error == "ProcessDiedError"
