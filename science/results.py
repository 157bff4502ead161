"""What the cells gave, over their seeds: `docs/science/results.md`. Pure.

Intervals are Student's t over seeds, at 95 %: they hold for another draw of tasks, splits and samples, which the
intervals of one run's report do not. One seed has none.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from statistics import mean, stdev
from typing import Any

from scipy.stats import t

Result = Mapping[str, Any]
HEAD = """# When correction pays: results
Written by `make science`: one row for each value of a dial, points of 100, means over seeds with 95 % intervals
(Student's t).
What imitation and correction cost stands in their order.

| dial | value | seeds | init | imitation | correction | correction - imitation | teacher tokens | optimizer steps |
|---|---|---|---|---|---|---|---|---|
"""
ARMS = ("imitation", "correction")


def result(dial: str, value: str, seed: int, report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a cell's report.json."""
    return {
        "dial": dial,
        "value": value,
        "seed": seed,
        "seconds": round(report["run"]["seconds"]),
        "scores": {one["model"]: one["score"] for one in report["scores"]},
        "n": report["scores"][0]["n"],
        "control": report["control"],
    }


def table(results: Iterable[Result]) -> str:
    """Cells whose control could not be made are named below the rows, and count in none."""
    rows, lacking = defaultdict[tuple[str, str], list[Result]](list), list[str]()
    for one in results:
        if "imitation" in one["scores"]:
            rows[one["dial"], one["value"]].append(one)
        else:
            why = (one["control"] or {}).get("lacks") or "no reason is known"
            lacking.append(f"\nNot counted: {one['dial']}, {one['value']}, seed {one['seed']}: {why}\n")
    return HEAD + "".join(_row(dial, value, found) for (dial, value), found in rows.items()) + "".join(lacking)


def _row(dial: str, value: str, found: Sequence[Result]) -> str:
    init = [100 * float(one["scores"]["init"]) for one in found]
    imitation, correction = ([of_arm(one, arm) for one in found] for arm in ARMS)
    gains = [new - old for new, old in zip(correction, imitation, strict=True)]
    figures = " | ".join(map(interval, (init, imitation, correction)))
    spent = " and ".join(f"{mean(one['control'][arm]['teacher_tokens'] for one in found):,.0f}" for arm in ARMS)
    steps = " and ".join(f"{mean(one['control'][arm]['steps'] for one in found):,.0f}" for arm in ARMS)
    gain = interval(gains, sign=True)
    return f"| {dial} | {value} | {len(found)} | {figures} | {gain} | {spent} | {steps} |\n"


def of_arm(one: Result, arm: str) -> float:
    """What a way of teaching reached in a cell, of 100; correction with the student of its last round."""
    students = [str(model) for model in one["scores"] if model.startswith("sft")]
    last = max(students, key=lambda model: (len(model), model))
    return 100 * float(one["scores"]["imitation" if arm == "imitation" else last])


def interval(values: Sequence[float], *, sign: bool = False) -> str:
    """``74.0 [70.1, 77.9]``; without an interval for one value."""
    form = "+.1f" if sign else ".1f"
    middle, half = interval_of(values)
    if half is None:
        return f"{middle:{form}}"
    return f"{middle:{form}} [{middle - half:{form}}, {middle + half:{form}}]"


def interval_of(values: Sequence[float]) -> tuple[float, float | None]:
    """Their mean, and half of its 95 % interval, which one value does not have."""
    if len(values) < 2:
        return mean(values), None
    return mean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))
