"""Threads of a step: they end with it, since a fork of the state after it has one thread alone."""

import concurrent.futures.thread
import multiprocessing.dummy
import multiprocessing.pool
import multiprocessing.util
import queue
import threading
from collections.abc import Sequence
from typing import Any

_pools = concurrent.futures.thread


def fit() -> None:
    """Have pools of threads of ``multiprocessing`` do without a pipe and a lock that processes share."""
    pools: Any = multiprocessing.pool
    begin = pools.Pool.__init__

    def begin_threads(
        self: Any, processes: int | None = None, initializer: Any = None, initargs: Sequence[Any] = ()
    ) -> None:
        begin(self, processes, initializer, initargs, context=_Threads())

    pools.ThreadPool.__init__ = begin_threads
    pools.Pool._wait_for_updates = staticmethod(_wait_for_news)


class _News(queue.SimpleQueue[None]):
    _reader = None


class _Threads:
    """What a pool takes from the context of its processes."""

    SimpleQueue = _News


def _wait_for_news(_: Sequence[Any], news: _News, timeout: float | None = None) -> None:
    try:
        news.get(timeout=timeout)
        while True:
            news.get_nowait()
    except queue.Empty:
        return


def is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def end_all() -> None:
    """Wait for what the step started, as an interpreter does at its end; pools that it left open are shut down."""
    if threading.active_count() == 1 or not is_main():
        return
    multiprocessing.util._run_finalizers(0)  # type: ignore[attr-defined]
    _pools._python_exit()
    _pools._shutdown = False
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
