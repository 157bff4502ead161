"""CPU time in the real sandbox: bounded for a step, not for the zygote."""

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
        for _ in range(200):
            result = await before.run("print(len(blocks))")
            assert result.output == "100"
            await result.branch.close()


async def test_a_process_that_outlives_the_daemon_is_ended_by_the_kernel() -> None:
    async with start(LIMITS) as sandbox:
        code = "import resource; print(resource.getrlimit(resource.RLIMIT_CPU))"
        assert (await (await sandbox.open()).run(code)).output == "(3600, 3600)"
