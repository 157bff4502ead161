"""CPU time in the real sandbox: bounded for a step, not for the zygote."""

import asyncio

from score_distill.sandbox.limits import Limits
from score_distill.sandbox.local import start

LIMITS = Limits(cpu_seconds=1, wall_seconds=100)


async def test_sessions_open_from_a_zygote_whose_own_work_took_longer_than_a_step_may() -> None:
    async with start(LIMITS, libraries=("sympy",)) as sandbox:
        for seed in range(3):
            branch = await sandbox.open(seed=seed)
            assert (await branch.run("import sympy; print(sympy.sqrt(4))")).output == "2"


async def test_a_step_that_uses_up_its_cpu_time_is_told_so_and_undone() -> None:
    async with start(LIMITS) as sandbox:
        branch = (await (await sandbox.open()).run("x = 1")).branch
        result = await branch.run("x = 2\nwhile True: pass")
        assert result.output == "TimeoutError: the step used more than 1 s of CPU time"
        assert (await result.branch.run("print(x)")).output == "1"


async def test_forks_do_not_use_up_the_cpu_time_of_the_state_they_come_from() -> None:
    async with start(LIMITS) as sandbox:
        used = "import time\nblocks = [bytes(1 << 20) for _ in range(100)]\nwhile time.process_time() < 0.5: pass"
        first = await (await sandbox.open()).run(used)
        assert first.error is None, first.output
        before = first.branch
        for _ in range(40):
            result = await before.run("print(len(blocks))")
            assert result.output == "100"
            await result.branch.close()


async def test_a_process_that_outlives_the_daemon_is_ended_by_the_kernel() -> None:
    async with start(LIMITS) as sandbox:
        code = "import resource; print(resource.getrlimit(resource.RLIMIT_CPU))"
        assert (await (await sandbox.open()).run(code)).output == "(3600, 3600)"


async def test_neighbours_do_not_decide_what_comes_of_a_step() -> None:
    async with start(Limits(cpu_seconds=3, wall_seconds=3, running=16), libraries=()) as sandbox:
        branches = [await sandbox.open(seed=seed) for seed in range(7)]
        spins = [asyncio.ensure_future(branch.run("while True: pass")) for branch in branches[1:]]
        code = "import time\nwhile time.process_time() < 1.5: pass\nprint('done')"
        result = await branches[0].run(code)
        assert (result.output, result.error) == ("done", None)
        assert {(await spin).output for spin in spins} == {"TimeoutError: the step used more than 3 s of CPU time"}


async def test_a_step_that_waits_for_nothing_ends_by_wall_time() -> None:
    async with start(Limits(cpu_seconds=3, wall_seconds=0.5), libraries=()) as sandbox:
        result = await (await sandbox.open()).run("import time; time.sleep(3600)")
        assert result.output == "TimeoutError: the step ran longer than 0.5 s"


BIG = "table = {(n, str(n), (n % 7, n * 0.5)): [n] for n in range(100_000)}"


async def test_the_time_of_a_digest_is_not_the_steps() -> None:
    async with start(Limits(cpu_seconds=60, wall_seconds=60), libraries=()) as patient:
        assert (await (await patient.open()).run(BIG)).error is None
    async with start(Limits(cpu_seconds=1, wall_seconds=0.3), libraries=()) as sandbox:
        branch = await sandbox.open()
        for n in range(8):
            result = await branch.run(f"part{n} = {{(n, {n}): [n] for n in range(40_000)}}")
            assert result.error is None, result.output
            branch = result.branch
        assert (await branch.run("print(len(part7))")).output == "40000"


async def test_sessions_of_one_seed_draw_the_same_from_numpy_whenever_they_import_it() -> None:
    ways = (
        "import numpy as np\n"
        "print(np.random.rand(3), np.random.default_rng().random(), np.random.RandomState().rand())",
        "from numpy.random import default_rng, rand, RandomState\nimport numpy as np\n"
        "print(rand(3), default_rng().random(), RandomState().rand())",
    )
    async with start(libraries=("numpy",)) as one, start(libraries=("sympy", "numpy")) as other:
        drawn = {
            seed: {
                (await (await sandbox.open(seed=seed)).run(code)).output for sandbox in (one, other) for code in ways
            }
            for seed in (1, 2)
        }
    assert [len(found) for found in drawn.values()] == [1, 1]
    assert drawn[1] != drawn[2]
