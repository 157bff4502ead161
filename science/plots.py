"""A drawing for each dial: what imitation and correction reach at its values, with intervals over seeds."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from science.cells import DIALS
from science.results import ARMS, Result, interval_of, of_arm

COLOURS = {"imitation": "#b5478f", "correction": "#2f6fdf"}
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "score-distill",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(results: Iterable[Result], folder: Path) -> str:
    """One SVG a dial that has results with their control, and Markdown that shows them.

    The same results give the same bytes.
    """
    shown = ""
    counted = [one for one in results if "imitation" in one["scores"]]
    for dial, values in DIALS.items():
        found = {value: [one for one in counted if (one["dial"], one["value"]) == (dial, value)] for value in values}
        if any(found.values()):
            with matplotlib.rc_context(SETTINGS):
                _figure(dial, {value: ones for value, ones in found.items() if ones}).savefig(
                    folder / name_of(dial), metadata={"Date": None}
                )
            shown += f"\n![{dial}]({name_of(dial)})\n"
    return shown


def name_of(dial: str) -> str:
    return re.sub(r"\W", "-", dial) + ".svg"


def _figure(dial: str, found: dict[str, Sequence[Result]]) -> Figure:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    for arm, shift in zip(ARMS, (-0.03, 0.03), strict=True):
        spans = [interval_of([of_arm(one, arm) for one in ones]) for ones in found.values()]
        middles, halves = [middle for middle, _ in spans], [half or 0.0 for _, half in spans]
        places = [place + shift for place in range(len(found))]
        axes.errorbar(places, middles, halves, marker="o", capsize=3, color=COLOURS[arm], label=arm)
    axes.set_xticks(range(len(found)), list(found))
    axes.set_xlabel(dial)
    axes.set_ylabel("solved, %")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    return figure
