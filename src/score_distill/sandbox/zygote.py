"""The first interpreter: warm, confined, and the ancestor of every session.

Started by the daemon as a fresh process with an empty environment, so it never held anything worth stealing. It reads
one message with what to import and the limits, warms up, gives up every right, says so, and from then on only forks.
"""

import gc
import importlib
import os
import sys
from dataclasses import asdict
from typing import Any

from score_distill.sandbox import confine, session
from score_distill.sandbox.limits import Limits

_STANDARD = (
    "abc array ast base64 bisect calendar cmath collections collections.abc contextlib copy csv dataclasses datetime "
    "decimal enum fractions functools hashlib heapq inspect io itertools json math numbers operator pprint queue "
    "random re secrets statistics string struct sys tempfile textwrap time traceback types typing unicodedata uuid "
    "zoneinfo"
).split()


def request(libraries: tuple[str, ...], limits: Limits) -> dict[str, Any]:
    """The message that starts a zygote."""
    return {"libraries": libraries, "limits": asdict(limits)}


def main() -> None:
    start = session.receive()
    limits = Limits(**start["limits"])
    for name in (*_STANDARD, *start["libraries"]):
        importlib.import_module(name)
    sys.modules["tempfile"].tempdir = "."  # type: ignore[attr-defined]
    state = session.Session(os.getppid(), limits.message_bytes)
    confine.close_descriptors(session.CONTROL)
    confine.no_new_privileges()
    confine.bound_resources(limits)
    session.send({"ready": 1})
    os.environ.clear()
    gc.collect()
    gc.freeze()
    state.live()


if __name__ == "__main__":
    main()
