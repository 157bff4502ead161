"""``python -m tests.cluster up|down|status``: a cluster with one node for a person, with the operator on it.

An S3 server with the quickstart's models and tasks runs beside it, and the namespace ``team`` may read it.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.cluster import images, leftovers
from tests.cluster.binaries import CLUSTER, CannotBuild, built, cache
from tests.cluster.node import PLACE, check_machine, cluster, missing_packages
from tests.cluster.product import installed
from tests.cluster.waiting import eventually

from score_distill.executors.local.processes import last_lines

KEEPER, LOG = PLACE / "keeper", PLACE / "keeper.log"
NAMESPACE = "team"


def up() -> int:
    if keeper():
        return status()
    check_machine()
    images.worker()
    for name in CLUSTER:
        built(name)
    PLACE.mkdir(exist_ok=True)
    reading, writing = os.pipe()
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "keep", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[writing],
            start_new_session=True,
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as ready:
        if ready.read():
            return status()
    print("\n".join(last_lines(LOG)), file=sys.stderr)
    return process.wait()


def keep(ready: int) -> None:
    """Hold a cluster until a signal ends this process; says on a pipe when it is up."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="score-distill-")))
        whole = ends.enter_context(cluster())
        for archive in (images.worker(), images.operator(folder)):
            whole.import_image(archive)
        ends.enter_context(installed(whole, folder)).prepare(NAMESPACE)
        KEEPER.write_text(str(os.getpid()))
        try:
            with os.fdopen(ready, "wb") as pipe:
                pipe.write(b"up")
            while True:
                signal.pause()
        finally:
            KEEPER.unlink()


def keeper() -> int | None:
    """The process that holds a person's cluster."""
    with suppress(FileNotFoundError, ValueError):
        pid = int(KEEPER.read_text())
        if b"tests.cluster" in Path("/proc", str(pid), "cmdline").read_bytes():
            return pid
    return None


def down() -> int:
    if pid := keeper():
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: _gone(pid), every=0.1)
    else:
        check_machine()
        KEEPER.unlink(missing_ok=True)
        leftovers.clear(cache() / "state", PLACE)
    return 0


def _gone(pid: int) -> None:
    assert not Path("/proc", str(pid)).exists(), f"process {pid}, which holds the cluster, does not end"


def packages() -> int:
    """Print which of Debian's packages are missing."""
    print(" ".join(missing_packages()))
    return 0


def status() -> int:
    if not keeper():
        print("no cluster is up")
        return 1
    kubeconfig = cache() / "state" / "admin.kubeconfig"
    print(f"a cluster with the operator is up\n\n  export KUBECONFIG={kubeconfig} PATH={built('kubernetes')}:$PATH\n")
    print(f"  kubectl --namespace {NAMESPACE} apply -f examples/kubernetes/quickstart.yaml")
    print(f"  kubectl --namespace {NAMESPACE} get drun quickstart --watch")
    print(f"  kubectl --namespace {NAMESPACE} describe drun quickstart\n", flush=True)
    command = [built("kubernetes") / "kubectl", "--kubeconfig", kubeconfig, "get", "nodes,pods", "--all-namespaces"]
    return subprocess.run(command).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status", "packages", "keep"], metavar="up|down|status|packages")
    parser.add_argument("ready", nargs="?", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.verb == "keep":
            keep(arguments.ready)
        return {"up": up, "down": down, "status": status, "packages": packages}[arguments.verb]()
    except (CannotBuild, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
