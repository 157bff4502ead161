"""Kubernetes' programs and Prometheus, built by Go into a cache folder outside the clone, each module once.

``python -m tests.cluster.binaries [MODULE...]`` builds what is missing, the modules of a cluster if none is named.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_KUBERNETES = "1.36.2"
_VERSION = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Module:
    """A folder with a ``go.mod`` whose ``tool`` block names the commands."""

    name: str
    minutes: str
    flags: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()


MODULES = {
    module.name: module
    for module in (
        Module(
            "kubernetes",
            "10 to 15 minutes",
            (
                f"-X {_VERSION}.gitVersion=v{_KUBERNETES}",
                f"-X {_VERSION}.gitMajor={_KUBERNETES.split('.')[0]}",
                f"-X {_VERSION}.gitMinor={_KUBERNETES.split('.')[1]}",
            ),
            renamed=(("server", "etcd"),),
        ),
        Module("containerd", "2 minutes"),
        Module("coredns", "5 minutes"),
        Module("kwok", "2 minutes"),
        Module("prometheus", "4 minutes", tags=("remove_all_sd",)),
    )
}
CLUSTER = ("kubernetes", "containerd", "coredns")


class CannotBuild(Exception):
    """What a person must do first."""


def cache() -> Path:
    if named := os.environ.get("SCORE_CLUSTER_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "score-distill" / "cluster"


def built(name: str) -> Path:
    """The folder with the module's programs, which are built if they are not there yet."""
    module = MODULES[name]
    target = cache() / f"{name}-{key(module)}"
    if target.exists():
        return target
    with alone(target):
        if not target.exists():
            build(module, target)
    return target


def control_plane_programs() -> Path:
    """A folder with etcd, kube-apiserver and kubectl; ``KUBEBUILDER_ASSETS`` may lack kube-controller-manager."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(assets) if assets else built("kubernetes")


def prometheus() -> Path:
    """The one in PATH, else one that scrapes only what it is told by its file, without its pages."""
    return Path(shutil.which("prometheus") or built("prometheus") / "prometheus")


def key(module: Module) -> str:
    """Changes with all that decides what is built, but the compiler."""
    digest = hashlib.sha256()
    for file in ("go.mod", "go.sum"):
        digest.update((HERE / module.name / file).read_bytes())
    digest.update(repr(module.flags + module.renamed + module.tags).encode())
    return digest.hexdigest()[:16]


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Holds off other processes that would make the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(module: Module, target: Path) -> None:
    toolchain = go_toolchain()
    print(
        f"building {module.name} with Go for the tests' cluster, once, into {target}: {module.minutes} on two cores "
        "(a minute where Go has compiled it before) ...",
        file=sys.stderr,
        flush=True,
    )
    partial = Path(tempfile.mkdtemp(prefix=f".{module.name}-", dir=target.parent))
    try:
        subprocess.run(
            [
                *("go", "build", "-trimpath", "-tags", ",".join(module.tags)),
                *("-ldflags", " ".join(("-s -w", *module.flags)), "-o", f"{partial}/", "tool"),
            ],
            cwd=HERE / module.name,
            env={
                **os.environ,
                "GOTOOLCHAIN": toolchain,
                "CGO_ENABLED": "0",
                "GOFLAGS": "-buildvcs=false",
                "GOWORK": "off",
            },
            check=True,
        )
        for old, new in module.renamed:
            (partial / old).rename(partial / new)
        partial.chmod(0o755)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def go_toolchain() -> str:
    """The installed Go if it is of the series that these modules are built with, else one that Go fetches itself."""
    if not shutil.which("go"):
        raise CannotBuild(
            "The tests' Kubernetes is built with Go, and there is no go in PATH: install Go 1.26 from go.dev,"
            " or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl, and have prometheus in PATH"
            " (enough for `make test`)."
        )
    said = subprocess.run(["go", "version"], env={**os.environ, "GOTOOLCHAIN": "local"}, capture_output=True, text=True)
    return "auto" if re.search(r"\bgo1\.26\b", said.stdout) else "go1.26.8"


def main(arguments: Sequence[str]) -> int:
    names = list(arguments or CLUSTER)
    if unknown := set(names) - set(MODULES):
        print(f"no such module: {', '.join(unknown)}; there are {', '.join(MODULES)}", file=sys.stderr)
        return 2
    given = {"kubernetes": os.environ.get("KUBEBUILDER_ASSETS"), "prometheus": shutil.which("prometheus")}
    try:
        for name in names:
            print(given.get(name) or built(name))
    except CannotBuild as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
