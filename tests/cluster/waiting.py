from collections.abc import Callable
from typing import TypeVar

from tenacity import Retrying, stop_after_delay, wait_fixed

T = TypeVar("T")


def eventually(look: Callable[[], T], within: float = 60, every: float = 0.2) -> T:
    """What ``look`` gives once it raises nothing; its last error if it still does after ``within`` seconds."""
    return Retrying(stop=stop_after_delay(within), wait=wait_fixed(every), reraise=True)(look)
