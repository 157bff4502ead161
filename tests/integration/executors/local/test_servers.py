"""A server is ready when it has answered, is started again with a bound, and says why when it gives up."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from score_distill.errors import BadInput, Infrastructure
from score_distill.executors.local.servers import STARTS, Launch, Server

ALIVE = "import sys, time; open(sys.argv[1], 'a').write('up\\n'); time.sleep(600)"
DEAD = "import sys; open(sys.argv[1], 'a').write('up\\n'); print('no room at the inn'); sys.exit(9)"
REFUSES = DEAD.replace("exit(9)", "exit(2)").replace("no room at the inn", "vllm: error: unrecognized arguments: --no")

Make = Callable[..., Server]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """A server that runs the given programs, one a start, and is ready when it has run."""
    made: list[Server] = []

    def server(*programs: str, deadline: float = 60, never: bool = False, words: str = "") -> Server:
        left = list(programs)

        async def launch() -> Launch:
            before = starts(tmp_path)
            program = left.pop(0) if len(left) > 1 else left[0]

            async def ready() -> bool:
                return not never and starts(tmp_path) > before and program == ALIVE

            return Launch([sys.executable, "-c", program, str(tmp_path / "starts")], os.environ, ready, words)

        log = tmp_path / "server.log"
        made.append(Server("one", launch, log=log, deadline=deadline))
        return made[-1]

    yield server
    for one in made:
        await one.stop()


def starts(folder: Path) -> int:
    path = folder / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


async def test_it_is_started_once_however_often_it_is_asked_for(make: Make, tmp_path: Path) -> None:
    server = make(ALIVE)
    server.begin()
    await asyncio.gather(server.ready(), server.ready())
    assert (server.state, starts(tmp_path)) == ("ready", 1)


async def test_one_that_dies_while_it_starts_is_started_again(make: Make, tmp_path: Path) -> None:
    server = make(DEAD, ALIVE)
    await server.ready()
    assert (server.state, starts(tmp_path)) == ("ready", 2)


async def test_one_that_keeps_dying_is_given_up_with_the_end_of_its_log(make: Make, tmp_path: Path) -> None:
    with pytest.raises(
        Infrastructure, match=r"server one: it ended with exit code 9, 3 times; (.|\n)*no room at the inn"
    ):
        await make(DEAD).ready()
    assert starts(tmp_path) == STARTS


async def test_one_that_refuses_its_arguments_is_not_started_again(make: Make, tmp_path: Path) -> None:
    field = "spec.student.serving.args"
    with pytest.raises(BadInput, match=rf"^{field}: server one refuses(.|\n)*unrecognized arguments: --no"):
        await make(REFUSES, words=field).ready()
    assert starts(tmp_path) == 1


async def test_the_same_exit_code_of_one_without_words_of_the_manifest_is_a_death(make: Make, tmp_path: Path) -> None:
    await make(REFUSES, ALIVE).ready()
    assert starts(tmp_path) == 2


async def test_the_same_exit_code_of_one_that_had_answered_is_a_death(make: Make, tmp_path: Path) -> None:
    server = make(ALIVE, REFUSES, ALIVE, words="spec.student.serving.args")
    await server.ready()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await server.death()
    await server.ready()
    assert starts(tmp_path) == 3


async def test_one_that_never_answers_is_given_up_after_its_deadline(make: Make) -> None:
    with pytest.raises(Infrastructure, match=r"no answer within 0 s, 3 times"):
        await make(ALIVE, deadline=0.4, never=True).ready()


async def test_a_death_is_told_and_the_next_who_needs_it_gets_a_new_one(make: Make, tmp_path: Path) -> None:
    server = make(ALIVE)
    await server.ready()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert await server.death() == "it was ended by signal 9"
    await server.ready()
    assert (server.state, starts(tmp_path)) == ("ready", 2)


async def test_a_stop_while_it_starts_leaves_nothing(make: Make) -> None:
    server = make(ALIVE, never=True)
    server.begin()
    waiting = asyncio.create_task(server.ready())
    while (pid := server.pid) is None:
        await asyncio.sleep(0)
    waiting.cancel()
    await server.stop()
    assert (server.state, server.pid) == ("stopped", None)
    assert not Path(f"/proc/{pid}").exists()
