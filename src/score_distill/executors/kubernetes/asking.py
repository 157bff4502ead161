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


class Asking:
    """Asks the pods of each run beside its passes: no pass waits for a pod, and no run's pods for another's.

    ``told`` hears of a run of which a round of questions brought something new.
    """

    def __init__(self, told: Callable[[Key], object]) -> None:
        self._told = told
        self._rounds: dict[Key, asyncio.Task[None]] = {}
        self._said: dict[Key, dict[str, Progress]] = {}
        self._complete: dict[Key, bool] = {}
        self._unread: set[Key] = set()

    def look(self, run: Key, pods: Pods) -> tuple[list[tuple[str, Progress]], bool]:
        """What these pods said last, with the step of each, and whether that is all they say.

        Pods that did not answer the first time they were asked may the next time. They are asked anew, unless what
        they said is new.
        """
        if run not in self._rounds and run not in self._unread and pods:
            task = self._rounds[run] = asyncio.create_task(self._round(run, pods))
            task.add_done_callback(lambda _: self._rounds.pop(run, None))
        self._unread.discard(run)
        said = self._said.get(run, {})
        found = [(step, said[pod["metadata"]["uid"]]) for step, pod in pods if pod["metadata"]["uid"] in said]
        return found, not pods or self._complete.get(run, False)

    async def finish(self, run: Key) -> None:
        """Wait until all pods of a run that are being asked have answered, or not."""
        if run in self._rounds:
            await self._rounds[run]

    def forget(self, run: Key) -> None:
        """The run is gone."""
        self._said.pop(run, None)
        self._complete.pop(run, None)
        self._unread.discard(run)
        if run in self._rounds:
            self._rounds[run].cancel()

    async def _round(self, run: Key, pods: Pods) -> None:
        side_by_side = asyncio.Semaphore(AT_ONCE)
        before = self._said.get(run, {})
        said = {pod["metadata"]["uid"]: before.get(pod["metadata"]["uid"]) for _, pod in pods}

        async def ask(pod: Body) -> None:
            async with side_by_side:
                if (one := await progress(pod["status"]["podIP"])) is not None:
                    said[pod["metadata"]["uid"]] = one

        await asyncio.gather(*(ask(pod) for _, pod in pods))
        now = {uid: one for uid, one in said.items() if one is not None}
        steps = {step for step, _ in pods}
        complete = run in self._complete or {step for step, pod in pods if pod["metadata"]["uid"] in now} == steps
        if (now, complete) != (before, self._complete.get(run, False)):
            self._unread.add(run)
            self._told(run)
        self._said[run], self._complete[run] = now, complete
