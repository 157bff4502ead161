"""How far the pods of runs say that they are. Pods run what a tenant names: each gets one small, short question."""

import asyncio
from collections.abc import Callable, Sequence

from score_distill.contract import Progress
from score_distill.executors.kubernetes.known import Key
from score_distill.executors.kubernetes.names import Body
from score_distill.executors.kubernetes.steps import PORT

SECONDS = 2.0
"""For a pod's whole answer, from the first packet to the last byte."""
MOST_BYTES = 65536
AT_ONCE = 64
"""Pods of one run that are asked side by side."""

PAUSE_SECONDS, RUNS_A_SECOND = 10.0, 100

Pods = Sequence[tuple[str, Body]]
"""With the step of each."""


async def progress(host: str, port: int = PORT, seconds: float = SECONDS) -> Progress | None:
    """What a running stage says of itself; None unless it is all there, in time and in bounds. Follows nothing."""
    try:
        async with asyncio.timeout(seconds):
            head, _, body = (await _reply(host, port)).partition(b"\r\n\r\n")
        version, code = head.split(None, 2)[:2]
        if not version.startswith(b"HTTP/1.") or code != b"200":
            return None
        return Progress.model_validate_json(body)
    except (OSError, ValueError):
        return None


async def _reply(host: str, port: int) -> bytes:
    """Raises ValueError for one that is too long."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /progress HTTP/1.0\r\nHost: {host.replace(':', '.')}\r\n\r\n".encode())
        found = b""
        while part := await reader.read(MOST_BYTES):
            found += part
            if len(found) > MOST_BYTES:
                raise ValueError("too long")
        return found
    finally:
        writer.transport.abort()


def pause(runs: int, least: float = PAUSE_SECONDS) -> float:
    """Seconds from one question to a pod to the next."""
    return max(least, runs / RUNS_A_SECOND)


class Asking:
    """Asks the pods of each run beside its passes, by a clock of its own: no pass waits for a pod, nor run for run.

    ``told`` hears of a run of which a round of questions brought something new.
    """

    def __init__(self, told: Callable[[Key], object], pause: float = PAUSE_SECONDS) -> None:
        self._told, self._pause = told, pause
        self._pods: dict[Key, Pods] = {}
        self._rounds: dict[Key, asyncio.Task[None]] = {}
        self._clocks: dict[Key, asyncio.TimerHandle] = {}
        self._said: dict[Key, dict[str, Progress]] = {}
        self._complete: dict[Key, bool] = {}

    def look(self, run: Key, pods: Pods) -> tuple[list[tuple[str, Progress]], bool]:
        """What these pods said last, with the step of each, and whether that is all they say.

        From now on these are asked. Pods that did not answer the first time they were asked may the next time.
        """
        before = self._pods.pop(run, ())
        if pods:
            self._pods[run] = pods
        if {pod["metadata"]["uid"] for _, pod in pods} - {pod["metadata"]["uid"] for _, pod in before}:
            self._begin(run)
        said = self._said.get(run, {})
        found = [(step, said[pod["metadata"]["uid"]]) for step, pod in pods if pod["metadata"]["uid"] in said]
        return found, not pods or self._complete.get(run, False)

    async def ask(self, run: Key) -> None:
        """Ask the pods of a run, unless they are being asked, and wait until they have answered, or not."""
        self._begin(run)
        if run in self._rounds:
            await self._rounds[run]

    def forget(self, run: Key) -> None:
        """The run is gone."""
        for kept in (self._pods, self._said, self._complete):
            kept.pop(run, None)
        if run in self._clocks:
            self._clocks.pop(run).cancel()
        if run in self._rounds:
            self._rounds[run].cancel()

    def _begin(self, run: Key) -> None:
        if run in self._clocks:
            self._clocks.pop(run).cancel()
        if run in self._pods and (run not in self._rounds or self._rounds[run].done()):
            task = self._rounds[run] = asyncio.create_task(self._round(run, self._pods[run]))
            task.add_done_callback(lambda done: self._ended(run, done))

    def _ended(self, run: Key, done: asyncio.Task[None]) -> None:
        if self._rounds.get(run) is not done:
            return
        del self._rounds[run]
        if run in self._pods and not done.cancelled():
            self._clocks[run] = done.get_loop().call_later(pause(len(self._pods), self._pause), self._begin, run)

    async def _round(self, run: Key, pods: Pods) -> None:
        side_by_side = asyncio.Semaphore(AT_ONCE)
        before = self._said.get(run, {})
        said = {pod["metadata"]["uid"]: before.get(pod["metadata"]["uid"]) for _, pod in pods}

        async def ask(pod: Body) -> None:
            async with side_by_side:
                if (one := await progress(pod["status"]["podIP"])) is not None:
                    said[pod["metadata"]["uid"]] = one.model_copy(update={"figures": {}})

        await asyncio.gather(*(ask(pod) for _, pod in pods))
        now = {uid: one for uid, one in said.items() if one is not None}
        steps = {step for step, _ in pods}
        complete = run in self._complete or {step for step, pod in pods if pod["metadata"]["uid"] in now} == steps
        new = (now, complete) != (before, self._complete.get(run, False))
        self._said[run], self._complete[run] = now, complete
        if new:
            self._told(run)
