"""Whether memory is short: by the machine's own numbers, or by the bound of the cgroup of either version."""

from pathlib import Path

import pytest

from score_distill.sandbox.memory_watch import is_short

MIB = 1 << 20


def cgroup(root: Path, version: int, bound: str, used: int, cached: int) -> Path:
    """What a container of that version sees."""
    names = {1: ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"), 2: ("max", "current", "inactive_file")}
    limit, usage, inactive = names[version]
    folder = root / "memory" if version == 1 else root
    folder.mkdir(exist_ok=True)
    (folder / f"memory.{limit}").write_text(f"{bound}\n")
    (folder / f"memory.{usage}").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"cache 7\n{inactive} {cached}\nunevictable 0\n")
    return root


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("used", "cached", "short"), [(50, 0, False), (97, 0, True), (97, 10, False)], ids=["room", "full", "only files"]
)
def test_a_bound_of_the_cgroup_counts(tmp_path: Path, version: int, used: int, cached: int, short: bool) -> None:
    root = cgroup(tmp_path, version, str(100 * MIB), used * MIB, cached * MIB)
    assert is_short(root) is short


@pytest.mark.parametrize(("version", "none"), [(1, "9223372036854771712"), (2, "max")])
def test_without_a_bound_the_machine_decides(tmp_path: Path, version: int, none: str) -> None:
    assert not is_short(cgroup(tmp_path, version, none, 1 << 50, 0))
    assert not is_short(tmp_path / "no cgroup")
