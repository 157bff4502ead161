"""Many coroutines of one work: all results, or the first error when none of them runs any more."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in order. What ``asyncio.gather`` leaves running after an error is cancelled and waited for here."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from error
    return [task.result() for task in tasks]
