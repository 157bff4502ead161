"""Children that do not say who they are get ended; a state whose own end is being waited for is none of them."""

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from score_distill.sandbox import forks, process, reports
from score_distill.sandbox.channel import Channel
from score_distill.sandbox.holdings import Frozen, Step
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.scratch import Scratch
from score_distill.sandbox.steps import Steps

ENDS_WHEN_ITS_CHANNEL_CLOSES = ["sh", "-c", "cat >/dev/null; exit 7"]


async def test_a_state_that_does_not_fork_is_no_stray_while_its_end_is_waited_for(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(forks, "FORK_SECONDS", 0.01)
    monkeypatch.setattr(process, "_REAP_TRIES", 10_000)
    state, zygote = Frozen(Channel(1024)), Frozen(Channel(1024))
    child = subprocess.Popen(ENDS_WHEN_ITS_CHANNEL_CLOSES, stdin=state.channel.theirs)
    state.channel.pid = zygote.channel.pid = child.pid
    listener, _ = os.pipe()
    running = Steps(Limits(), Scratch(tmp_path), forks.Forks(Limits(), zygote, listener))

    step = asyncio.ensure_future(running.run(state, Step("pass"), no_tools))
    while state.channel.theirs.fileno() >= 0:
        await asyncio.sleep(0)
    running.forks.end_strays({child.pid})
    process.thaw(child.pid)
    ended = await step

    assert ended.error == "ProcessDiedError"
    assert "exit status 7" in ended.output
    assert child.pid not in running.forks.pids


async def no_tools(call: reports.Call) -> dict[str, Any]:
    pytest.fail(f"{call} was not asked for")
