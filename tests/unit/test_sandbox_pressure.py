"""Whether memory is short: by the machine's own numbers, or by the bound of the cgroup of either version."""

from pathlib import Path

import pytest

from score_distill.sandbox.memory_watch import is_short

MIB = 1 << 20


def cgroup(root: Path, version: int, bound: str, used: int, **statistics: int) -> Path:
    """What a container of that version sees."""
    names = {1: ("limit_in_bytes", "usage_in_bytes", "total_"), 2: ("max", "current", "")}
    limit, usage, prefix = names[version]
    folder = root / "memory" if version == 1 else root
    folder.mkdir(exist_ok=True)
    (folder / f"memory.{limit}").write_text(f"{bound}\n")
    (folder / f"memory.{usage}").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        "cache 7\n" + "".join(f"{prefix}{name} {size}\n" for name, size in statistics.items()) + "unevictable 0\n"
    )
    return root


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("used", "statistics", "short"),
    [
        (50, {}, False),
        (97, {}, True),
        (97, {"inactive_file": 10}, False),
        (97, {"active_file": 10}, False),
        (97, {"inactive_file": 1, "active_file": 1}, False),
        (99, {"inactive_file": 1, "active_file": 1}, True),
        (97, {"shmem": 10, "anon": 90, "slab_unreclaimable": 10}, True),
    ],
    ids=["room", "full", "files read once", "files read twice", "both", "too little of both", "nothing to give back"],
)
def test_a_bound_of_the_cgroup_counts(
    tmp_path: Path, version: int, used: int, statistics: dict[str, int], short: bool
) -> None:
    sizes = {name: size * MIB for name, size in statistics.items()}
    assert is_short(cgroup(tmp_path, version, str(100 * MIB), used * MIB, **sizes)) is short


def test_what_the_kernel_can_give_back_of_its_own_is_not_in_use(tmp_path: Path) -> None:
    assert not is_short(cgroup(tmp_path, 2, str(100 * MIB), 97 * MIB, slab_reclaimable=10 * MIB))


@pytest.mark.parametrize(("version", "none"), [(1, "9223372036854771712"), (2, "max")])
def test_without_a_bound_the_machine_decides(tmp_path: Path, version: int, none: str) -> None:
    assert not is_short(cgroup(tmp_path, version, none, 1 << 50))
    assert not is_short(tmp_path / "no cgroup")
