"""Threads of a step: they end with it, since a fork of the state after it has one thread alone."""

import concurrent.futures.thread
import threading

_pools = concurrent.futures.thread


def is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def end_all() -> None:
    """Wait for what the step started, as an interpreter does at its end; pools that it left open are shut down."""
    if threading.active_count() == 1 or not is_main():
        return
    _pools._python_exit()
    _pools._shutdown = False
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
