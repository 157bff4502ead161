"""The first interpreter: warm, confined, and the ancestor of every session.

Started by the daemon as a fresh process with an empty environment, so it never held anything worth stealing. It reads
one message with what to import and how to confine itself, warms up, gives up every right, says which layers are on,
and from then on only forks.
"""

import contextlib
import gc
import importlib
import os
import socket
import sys
import sysconfig
import zoneinfo
from pathlib import Path

from score_distill.sandbox import confine, fitted, pages, session, streams
from score_distill.sandbox.limits import Limits
from score_distill.sandbox.state import digest

_STANDARD = """
    abc array ast base64 bisect bz2 calendar cmath collections.abc contextlib copy csv dataclasses datetime decimal enum
    fractions functools hashlib heapq inspect io itertools json lzma math numbers operator pprint queue random re
    secrets statistics string struct tempfile textwrap time traceback typing unicodedata uuid zlib zoneinfo
"""
_STDLIB = sysconfig.get_path("stdlib")
_EXTENSIONS = sysconfig.get_config_var("DESTSHARED")
_FOREIGN = ("site-packages", "dist-packages")
_CPU_PRIORITY = 5
_REHEARSALS = 16


def main() -> None:
    start = session.receive()
    limits = Limits(**start["limits"])
    plan = confine.Plan(bytes.fromhex(start["allow"]), bytes.fromhex(start["ask"]), start["scratch"], limits)
    for name in (*_STANDARD.split(), *start["libraries"]):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random")  # which it loads when it is first asked for; sessions seed it
    packages = _packages(start["libraries"])
    places = fitted.fit()
    _settle()
    _rehearse()
    gc.collect()
    pages.collapse()
    os.closerange(session.CONTROL + 1, os.sysconf("SC_OPEN_MAX"))
    confine.first_to_be_killed()
    os.nice(_CPU_PRIORITY)
    state = session.Session(os.getppid(), limits, places)
    zones = list(filter(os.path.isdir, zoneinfo.TZPATH))
    confined = confine.confine(plan, [_STDLIB, _EXTENSIONS, *packages, *zones], [*_standard(), *packages, *zones])
    for path in (_STDLIB, plan.scratch):
        if not os.access(path, os.X_OK):
            sys.exit(f"sandbox: uid {os.getuid()} cannot reach {path}; open the folders above it to others")
    _hand_over(confined.listener)
    confine.close_filter(plan)
    session.send({"layers": [*confined.layers, "seccomp"]})
    os.dup2(streams.NOTHING, streams.STDERR)
    gc.collect()
    gc.freeze()
    state.live()


def _settle() -> None:
    """Leave nothing of the machine in the interpreter's own settings: no environment, no path to other libraries.

    What the standard library's folder lists was read before, and cannot be read again once confined.
    """
    os.environ.clear()
    sys.path[:] = ["", _STDLIB, _EXTENSIONS]
    for path in set(sys.path_importer_cache) - set(sys.path):
        del sys.path_importer_cache[path]
    sys.argv[:] = [""]


def _rehearse() -> None:
    """Do what each session does at the end of a step, until the interpreter has learnt it: every fork inherits that."""
    for _ in range(_REHEARSALS):
        digest({}, os.devnull)


def _standard() -> list[str]:
    """The standard library, entry by entry where other packages live inside its folder."""
    entries = [entry.path for entry in os.scandir(_STDLIB) if entry.name not in _FOREIGN]
    return [*entries, _EXTENSIONS]


def _packages(libraries: list[str]) -> list[str]:
    """The folders and files of the packages that importing ``libraries`` brought in."""
    if not libraries:
        return []
    found = set()
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if "." in name or not origin or not any(part in _FOREIGN for part in Path(origin).parts):
            continue
        place = Path(origin)
        found |= {place.parent, place.parent.with_name(f"{name}.libs")} if place.name == "__init__.py" else {place}
    return [str(place) for place in sorted(found) if place.exists()]


def _hand_over(listener: int) -> None:
    """Give the daemon the descriptor by which it grants calls."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, session.CONTROL)
    socket.send_fds(control, [session.packed(b"{}")], [listener])
    control.detach()
    os.close(listener)


if __name__ == "__main__":
    main()
