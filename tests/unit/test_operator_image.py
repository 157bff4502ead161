"""What the images are built from: the operator's needs, and Dockerfiles that the linter has nothing to say of."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "Dockerfile", *sorted((ROOT / "images").glob("*/Dockerfile"))]
CRD = "distill.score.dev_distillationruns.yaml"
START = """
import importlib.util, sys
sys.modules.update(dict.fromkeys(set(sys.argv[1:]) - set(sys.modules)))
found = importlib.util.spec_from_file_location("main", "operator/main.py")
found.loader.exec_module(importlib.util.module_from_spec(found))
"""


def test_the_operator_needs_nothing_that_its_image_lacks() -> None:
    lock = (ROOT / "requirements" / "operator.lock").read_text()
    pinned = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)} | {"score-distill"}
    owners = packages_distributions()
    lacking = [module for module, names in owners.items() if pinned.isdisjoint(map(normal, names))]
    assert {"torch", "transformers", "vllm", "deepspeed", "numpy"} <= set(lacking)
    started = subprocess.run([sys.executable, "-c", START, *lacking], cwd=ROOT, capture_output=True, text=True)
    assert started.returncode == 0, started.stderr


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_dockerfile_is_clean(dockerfile: Path) -> None:
    linted = subprocess.run([Path(sys.executable).with_name("hadolint"), dockerfile], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_dockerfile_means_the_same_to_podman_and_buildah(dockerfile: Path) -> None:
    instructions = re.findall(r"^([A-Z]+)\s", dockerfile.read_text(), re.MULTILINE)
    assert "FROM" in instructions
    assert {"SHELL", "HEALTHCHECK", "ONBUILD"}.isdisjoint(instructions), "OCI images have none: it would be ignored"


def test_the_chart_has_the_crd_of_the_api() -> None:
    copy = ROOT / "charts" / "score-operator" / "files" / CRD
    assert copy.read_bytes() == (ROOT / "crds" / CRD).read_bytes(), "run make generate"
