"""A step's folder has room for so many bytes and entries, however the files are made, held, or deleted."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from score_distill.sandbox.client import Sandbox, SandboxBusy
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
LIMITS = Limits(files=50, file_bytes=MIB, scratch_bytes=4 * MIB, wall_seconds=20)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncIterator[Sandbox]:
    async with start(LIMITS, libraries=()) as sandbox:
        yield sandbox


FILL = """
import mmap, os
held, count = [], 0
def write(name):
    f = open(name, 'wb+'); f.write(bytes(1 << 20)); f.flush()
    return f
try:
    while True:
        {}
        count += 1
except OSError as error:
    print(count, error.strerror)
"""
WAYS = {
    "files that stay": "write(str(count)).close()",
    "files that are deleted": "write('x').close(); os.unlink('x')",
    "files that are deleted and open": "held.append(write('x')); os.unlink('x')",
    "files that are deleted and mapped": "f = write('x'); held.append(mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE)); "
    "f.close(); os.unlink('x')",
    "files that are replaced": "write('x').close(); os.rename('x', 'y')",
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_no_way_of_writing_gets_more_than_the_folder_has_room_for(sandbox: Sandbox, way: str) -> None:
    result = await (await sandbox.open()).run(FILL.format(way) + "held.clear()")
    assert result.output == "4 No space left on device"


async def test_files_from_before_count_and_can_be_written_again(sandbox: Sandbox) -> None:
    branch = (await (await sandbox.open()).run("for n in range(3): open(str(n), 'wb').write(bytes(1 << 20))")).branch
    assert (await branch.run(FILL.format("write('x' + str(count)).close()"))).output == "1 No space left on device"
    again = "for n in range(20): open(str(n % 3), 'wb').write(bytes(1 << 20))\nprint('written')"
    assert (await branch.run(again)).output == "written"


ENTRIES = {
    "folders": "os.mkdir(str(count))",
    "nested folders": "os.makedirs(f'{count}/a'); count += 1",
    "files": "open(str(count), 'w').close()",
}


@pytest.mark.parametrize("way", ENTRIES.values(), ids=ENTRIES)
async def test_steps_together_make_no_more_entries_than_may_be(sandbox: Sandbox, way: str) -> None:
    branch = await sandbox.open()
    for _ in range(3):
        code = "import os\ncount = len(list(os.walk('.'))) + 1000 + len(os.listdir())\n"
        code += f"try:\n    while True: {way}; count += 1\n"
        result = await branch.run(code + "except OSError as error: print(error.strerror)")
        assert result.output == "No space left on device"
        branch = result.branch
    count = "print(sum(len(folders) + len(files) for _, folders, files in os.walk('.')))"
    assert int((await branch.run(count)).output) in (49, 50)


async def test_what_is_removed_makes_room_again(sandbox: Sandbox) -> None:
    code = "import os\nfor n in range(12): os.mkdir('a'); open('b', 'w').close(); os.rmdir('a'); os.unlink('b')"
    branch = await sandbox.open()
    for _ in range(5):
        result = await branch.run(code)
        assert result.error is None, result.output
        branch = result.branch
    assert (await branch.run("print(os.listdir())")).output == "[]"


REPLACED = """
import os
def size(): return sorted(os.listdir()), os.fstat(old.fileno()).st_size
old = open('x', 'w'); old.write('old'); old.flush()
open('y', 'w').write('new')
os.rename('y', 'x'); print(open('x').read(), *size())
os.mkdir('f'); os.rename('x', 'f/x'); os.rename('f', 'g'); print(open('g/x').read(), *size())
for wrong in (lambda: os.rename('g', 'g/x'), lambda: os.rename('none', 'g/x'), lambda: os.unlink('none')):
    try: wrong()
    except OSError as error: print(error.strerror, open('g/x').read())
os.unlink('g/x'); os.rmdir('g'); print(*size())
old.write('er'); old.flush(); print(*size())
old.close()
"""


async def test_what_is_written_can_be_replaced_moved_and_deleted_while_it_is_open(sandbox: Sandbox) -> None:
    assert (await (await sandbox.open()).run(REPLACED)).output.splitlines() == [
        "new ['x'] 3",
        "new ['g'] 3",
        "Invalid argument new",
        "No such file or directory new",
        "No such file or directory new",
        "[] 3",
        "[] 5",
    ]


async def test_nothing_is_left_of_what_a_step_deletes(sandbox: Sandbox) -> None:
    await (await sandbox.open()).run("import os; open('x', 'w').write('x'); os.unlink('x')")
    assert not list((Path(sandbox.socket_path).parent / "scratch" / "live").iterdir())


async def test_a_deleted_file_that_is_left_open_is_told_without_its_place(sandbox: Sandbox) -> None:
    result = await (await sandbox.open()).run("import os; f = open('x', 'w'); os.unlink('x')")
    assert result.output == "OSError: the step left open what cannot be kept (descriptor 4: a deleted file)"


async def test_the_folders_of_a_session_together_have_a_bound_and_those_of_another_their_own() -> None:
    async with start(Limits(session_scratch_bytes=4 * MIB), libraries=()) as sandbox:
        root = await sandbox.open()
        states = [(await root.run(f"open('a', 'wb').write(bytes({MIB}))")).branch for _ in range(3)]
        result = await states[0].run(f"open('b', 'wb').write(bytes({MIB}))")
        assert (result.error, result.branch) == ("OSError", states[0])
        assert result.output == "OSError: the folders of all states of the session together need more than 4 MiB"
        assert (await (await sandbox.open()).run(f"open('a', 'wb').write(bytes({MIB}))")).error is None
        for state in states[1:]:
            await state.close()
        assert (await states[0].run(f"open('b', 'wb').write(bytes({MIB}))")).error is None


async def test_a_daemon_whose_folders_are_full_is_busy_until_some_are_closed() -> None:
    async with start(Limits(kept_bytes=2 * MIB), libraries=()) as sandbox:
        states = [(await (await sandbox.open()).run(f"open('a', 'wb').write(bytes({MIB}))")).branch for _ in range(2)]
        with pytest.raises(SandboxBusy, match="close some"):
            await (await sandbox.open()).run("print(1)")
        await states[0].close()
        assert (await (await sandbox.open()).run("print(1)")).output == "1"


MAPPING = """
import ctypes, os
f = open('x', 'wb+'); f.write(bytes(5000)); f.flush()
ctypes.CDLL(None).mmap(None, ctypes.c_size_t(5000), 3, 2, f.fileno(), ctypes.c_long(0))
f.close()
"""


@pytest.mark.parametrize("code", [MAPPING, f"{MAPPING}os.unlink('x')"], ids=["a file", "a deleted file"])
async def test_no_state_keeps_a_file_mapped(sandbox: Sandbox, code: str) -> None:
    branch = await sandbox.open()
    result = await branch.run(code)
    assert result.error == "OSError" and "a mapping of" in result.output
    assert result.branch is branch
