"""The sandbox's main path where its daemon is an ordinary user without namespaces, as in a restricted pod."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.sandboxes import restricted

from score_distill.sandbox.client import Sandbox
from score_distill.sandbox.limits import Limits

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    limits = Limits(wall_seconds=60, cpu_seconds=1, memory_bytes=64 << 20)
    async with restricted(limits, libraries=("numpy",)) as sandbox:
        yield sandbox


async def test_every_layer_but_namespaces_is_on(sandbox: Sandbox) -> None:
    assert set(sandbox.layers) == {"unprivileged", "no_new_privs", "landlock", "seccomp"}


async def test_states_branch_keep_their_files_and_answer(sandbox: Sandbox) -> None:
    code = "import numpy\nx = numpy.arange(3)\nf = open('a', 'w+'); f.write('12'); f.flush(); f.seek(1)\nprint(x.sum())"
    first = await (await sandbox.open()).run(code)
    assert first.output == "3"
    one = await first.branch.run("x += 1; f.write('3'); f.seek(0); print(f.read()); final_answer_print(x.sum())")
    other = await first.branch.run("print(f.read()); final_answer_print(x.sum())")
    assert [(result.output, result.answer) for result in (one, other)] == [("13\n6", "6"), ("2\n3", "3")]


async def test_a_tool_is_called_and_answers(sandbox: Sandbox) -> None:
    async def double(args: list[int], kwargs: dict[str, int]) -> int:
        return 2 * args[0]

    assert (await (await sandbox.open(tools={"double": double})).run("print(double(21))")).output == "42"


ENDS = {
    "while True: pass": "TimeoutError",
    "x = bytes(1 << 28)": "MemoryError",
    "import os; os._exit(3)": "ProcessDiedError",
    "import os; os.fork()": "PermissionError",
    "import socket; socket.socket()": "PermissionError",
    "open('/etc/passwd')": "PermissionError",
    "open('../x', 'w')": "PermissionError",
    "while True: print('x' * 1000)": "OutputLimitError",
}


@pytest.mark.parametrize("code", ENDS)
async def test_a_step_is_bounded_and_its_session_goes_on(sandbox: Sandbox, code: str) -> None:
    branch = await sandbox.open()
    result = await branch.run(code)
    assert result.error == ENDS[code], result.output
    assert (await result.branch.run("print('alive')")).output == "alive"


async def test_a_file_that_all_users_may_read_and_write_stays_unread_and_as_it_is(sandbox: Sandbox) -> None:
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("ESCAPED")
        secret.chmod(0o666)
        os.chmod(folder, 0o777)
        code = f"for mode in 'ra':\n try: open({str(secret)!r}, mode).read()\n except OSError as e: print(e.errno)"
        assert (await (await sandbox.open()).run(code)).output == "13\n13"
        assert secret.read_text() == "ESCAPED"
